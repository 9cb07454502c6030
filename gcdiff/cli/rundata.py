"""The data of a run that a command reads again, which may have moved since the run was trained."""

from __future__ import annotations

from pathlib import Path


def data_of(arguments, config, heldout: int):
    """The splits of a run's data, with at most `heldout` held-out examples of an embedded world.

    They are at --root where that is given, which `config` then has too. Raises FileNotFoundError, naming --root, where
    there is no such folder or none of that kind.
    """
    from gcdiff import config as configs

    config.data.heldout = heldout
    if arguments.root is not None:
        config.data.root = arguments.root
    root = config.data.root
    here = "" if not root or Path(root).is_absolute() else f", looked for in {Path.cwd()}"
    way = f"expected --root DIR, where the data of {arguments.workdir} are now"
    if root and not Path(root).is_dir():
        raise FileNotFoundError(f"{root}: no such folder{here}: {way}")
    try:
        return configs.splits(config)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}{here}: {way}" if root else str(error)) from None


def stored_features(config, model):
    """The stored features of captions that a run names; None where it needs none, or encodes captions itself.

    Raises FileNotFoundError, naming --encoder, where they are gone.
    """
    from gcdiff import config as configs

    if model.encoder is not None:
        return None
    try:
        return configs.embeddings(config)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; or --encoder DIR, by which captions are encoded anew") from None
