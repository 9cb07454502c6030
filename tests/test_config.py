"""Configs: files and what goes wrong in them, overrides from text, and which changes a run can be resumed with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gcdiff import config as configs
from gcdiff.config import Specs, build_specs, check, default, fitted, load_file, load_run, override, save_run
from gcdiff.data.dataset import Example
from gcdiff.processes.gaussian import KINDS
from gcdiff.text.tokenizer import Vocabulary
from gcdiff.types import ImageSpec, LabelSpec

SPECS = Specs(ImageSpec(), LabelSpec(("road", "sky"), ((1, 2, 3), (4, 5, 6))), Vocabulary(("red", "sky"), 8), "none")
ROOT = Path(__file__).parents[1]


def write(folder: Path, body: str, before: str = "") -> Path:
    """A config file whose get_config(arg) runs `body` on the default config `c`."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    file = folder / "mine.py"
    head = f"from gcdiff.config import default\n{before}\ndef get_config(arg='free'):\n    c = default()\n"
    file.write_text(f"{head}{lines}    return c\n")
    return file


def refusal(function, *arguments) -> str:
    with pytest.raises(ValueError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.py")), ids=lambda file: file.stem)
def test_the_configs_that_come_along_are_valid(file):
    assert load_file(str(file)).name


def test_a_file_changes_fields_in_every_way_there_is(tmp_path):
    body = """
c.levels.kind = arg
c.train.update(steps=3, minutes=50)
c.update(optim=dict(clip=2))
c["text"]["drop"] = 0
c.data.size = [16, 32]
c.data.scale = (0.5, 1)
"""
    c = load_file(f"{write(tmp_path, body)}:shared", [("train.minutes", "2.5"), ("name", "None")])
    assert (c.levels.kind, c.train.steps, c.train.minutes, c.name) == ("shared", 3, 2.5, "None")
    assert (c.optim.clip, c.text.drop, c.data.size) == (2.0, 0.0, (16, 32))
    assert all(isinstance(v, float) for v in (c.optim.clip, c.text.drop))
    assert load_file(str(write(tmp_path, "c.train.minutes = 3"))).levels.kind == "free"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("c.train.stepz = 3", "line 5: config.train.stepz: there is no such field; did you mean config.train.steps?"),
        ("c.train.update(stepz=3)", "line 5: config.train.stepz: there is no such field"),
        ("c.update(train=dict(stepz=3))", "line 5: config.train.stepz: there is no such field"),
        ("c['train']['stepz'] = 3", "line 5: config.train.stepz: there is no such field"),
        ("c.train.stepz += 3", "line 5: config.train.stepz: there is no such field"),
        ("c.train['stepz']", "line 5: config.train.stepz: there is no such field"),
        ("c.qqqq = 3", "line 5: config.qqqq: there is no such field; fields near it: data, levels,"),
        ("c.train.steps = 2.5", "line 5: config.train.steps=2.5: expected int, as in 1000"),
        ("c.train.minutes = 'long'", "line 5: config.train.minutes=long: expected a number or None"),
        ("c.train.steps = None", ": config.train.steps is None, expected int, as in 1000"),
        ("c.train.steps = True", ": config.train.steps is True, expected int, as in 1000"),
        ("c.data.size = (16, 'b')", ": config.data.size is (16, 'b'), expected tuple, as in (32, 64)"),
        ("c.optim = dict(clip=1.0)", ": config.optim.b1 is missing, expected float, as in 0.9"),
        ("c.train = 5", "line 5: TypeError: Could not override field 'train'"),
        ("return 3", ": get_config gave 3, expected a config"),
        ("raise ValueError(f'there is no size {arg!r}')", "line 5: there is no size 'free'"),
        ("{'small': 3}[arg]", "line 5: KeyError: free"),
        ("c.train.steps = many", "line 5: NameError: name 'many' is not defined"),
        ("c.train.steps = = 3", "line 5: SyntaxError: invalid syntax"),
    ],
)
def test_errors_of_a_file_name_file_line_and_field(body, message, tmp_path):
    file = write(tmp_path, body)
    said = refusal(load_file, str(file))
    assert said.startswith(f"--config {file}") and message in said


def test_files_that_are_no_configs_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.py: there is no such file"):
        load_file("nowhere.py:arg")
    (tmp_path / "mine.txt").write_text("")
    assert "expected a Python file" in refusal(load_file, str(tmp_path / "mine.txt"))
    (tmp_path / "mine.py").write_text("")
    assert "expected a function get_config" in refusal(load_file, str(tmp_path / "mine.py"))
    assert "ModuleNotFoundError" in refusal(load_file, str(write(tmp_path, "pass", "import qqqq")))


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("train.minutes", "3", 3.0),
        ("train.minutes", "0.5", 0.5),
        ("train.minutes", "none", None),
        ("optim.learning_rate", "1", 1.0),
        ("optim.learning_rate", "1e-3", 1e-3),
        ("train.steps", "1_000", 1000),
        ("data.flip", "TRUE", True),
        ("data.flip", "false", False),
        ("data.size", "(1,2)", (1, 2)),
        ("data.size", "[1, 2]", (1, 2)),
        ("data.scale", "(1,2)", (1.0, 2.0)),
        ("network.attention", "(true,False)", (True, False)),
        ("data.root", "true", "true"),
        ("name", "(1,2)", "(1,2)"),
    ],
)
def test_overrides_take_the_type_of_their_field(field, text, value):
    config = default()
    override(config, "train.minutes", "7")
    override(config, field, text)
    section, _, name = field.rpartition(".")
    got = (config[section] if section else config)[name]
    assert repr(got) == repr(value)


@pytest.mark.parametrize(
    ("field", "text", "kind"),
    [
        ("train.steps", "many", "int, as in 1000"),
        ("train.steps", "2.0", "int, as in 1000"),
        ("train.steps", "none", "int, as in 1000"),
        ("train.minutes", "long", "a number or None"),
        ("train.minutes", "true", "a number or None"),
        ("optim.clip", "true", "float, as in 1.0"),
        ("data.flip", "1", "bool, as in False"),
        ("data.size", "32", "tuple, as in (32, 64)"),
        ("data.size", "(32,0.5)", "tuple, as in (32, 64)"),
        ("data.size", "{[]: 1}", "tuple, as in (32, 64)"),
    ],
)
def test_overrides_of_another_type_are_refused(field, text, kind):
    assert refusal(override, default(), field, text) == f"--config.{field}={text}: expected {kind}"


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("train.stepz", "did you mean config.train.steps?"),
        ("trian.steps", "did you mean config.train.steps?"),
        ("train.learning_rate", "did you mean config.optim.learning_rate?"),
        ("learning_rate", "did you mean config.optim.learning_rate?"),
        ("sample.steps.qqqq", "fields near it: sample.autoguidance, sample.chunk,"),
        ("train", "fields near it: train.accumulate, train.batch_size,"),
        ("optim.qqqq", "fields near it: optim.b1, optim.b2,"),
        ("qqqq.steps.x", "fields near it: data, levels, loss,"),
    ],
)
def test_a_field_that_does_not_exist_comes_with_the_one_meant(field, hint):
    said = refusal(override, default(), field, "3")
    assert said.startswith(f"--config.{field}: there is no such field; {hint}")


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("process.output", "w", f"config.process.output is 'w', expected one of {KINDS}"),
        ("network.kind", "mlp", "config.network.kind is 'mlp', expected one of ('unet', 'transformer')"),
        ("sample.chunk", "0", "config.sample.chunk is 0, expected at least 1"),
        ("data.size", "(32,)", "config.data.size is (32,), expected two values"),
        ("data.size", "(32,63)", "config.data.size (32, 63) is not divisible by the network's stride 2"),
        ("network.mults", "(1,)", "config.network.blocks has 2 levels, network.mults 1"),
    ],
)
def test_values_that_cannot_be_are_refused(field, text, message, tmp_path):
    assert refusal(load_file, str(write(tmp_path, "pass")), [(field, text)]) == message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("c.network.patch = 2", "config.network.patch is 2, which network.kind=unet does not have: it has attention, "),
        (
            "c.network.update(kind='transformer', dim=64, mults=(1, 2, 4))",
            "config.network.mults is (1, 2, 4), which network.kind=transformer does not have: it has depth, dim, ",
        ),
        (
            "c.network.update(kind='transformer', dim=36)",
            "config.network.dim is 36, expected a multiple of 8 network.he",
        ),
        (
            "c.network.update(kind='transformer', patch=6)",
            "config.data.size (32, 64) is not divisible by the network's stride 6",
        ),
        (
            "c.process.layout = 'bits'; c.loss.rarity = 0.5",
            "config.loss.rarity counts noisy labels, which process.layout",
        ),
    ],
)
def test_fields_of_another_network_and_sizes_that_it_cannot_have_are_refused(body, said, tmp_path):
    assert refusal(load_file, str(write(tmp_path, body)), []).startswith(said)


def test_a_run_comes_back_as_it_was_saved(tmp_path):
    config = default()
    config.data.update(size=(16, 32), scale=(0.5, 1.0))
    config.train.minutes = 3
    save_run(tmp_path, config, SPECS)
    loaded, specs = load_run(tmp_path)
    assert repr(loaded.to_dict()) == repr(config.to_dict()) and specs == SPECS and loaded.is_locked
    assert configs.train_config(loaded).minutes == 3.0
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "specs.json", "DATA_LICENCE.txt"}


@pytest.mark.parametrize(
    ("field", "text"), [("data.root", "/moved"), ("train.steps", "7"), ("train.minutes", "3"), ("sample.chunk", "8")]
)
def test_a_run_goes_on_where_the_model_and_its_data_stay(field, text, tmp_path):
    save_run(tmp_path, default(), SPECS)
    config = default()
    override(config, field, text)
    save_run(tmp_path, config, SPECS)
    assert load_run(tmp_path)[0].to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("field", "text", "change"),
    [
        ("train.seed", "1", "train.seed=0, now train.seed=1"),
        ("train.batch_size", "7", "train.batch_size=32, now train.batch_size=7"),
        ("data.size", "(8,8)", "data.size=[32, 64], now data.size=[8, 8]"),
        ("optim.clip", "2", "optim.clip=1.0, now optim.clip=2.0"),
    ],
)
def test_a_run_is_not_written_over_by_another(field, text, change, tmp_path):
    save_run(tmp_path, default(), SPECS)
    before = (tmp_path / "config.json").read_text()
    config = default()
    override(config, field, text)
    assert refusal(save_run, tmp_path, config, SPECS) == (
        f"{tmp_path} was trained with {change}: choose another --workdir, with --init {tmp_path} to begin with its "
        "weights"
    )
    override(config, "train.steps", "9")  # may change
    override(config, "loss.image", "3")
    said = refusal(save_run, tmp_path, config, SPECS)
    assert "loss.image=1.0" in said and "loss.image=3.0" in said and change.split(",")[0] in said
    assert "train.steps" not in said
    assert (tmp_path / "config.json").read_text() == before


def test_data_that_moved_must_be_the_same_data(tmp_path):
    save_run(tmp_path, default(), SPECS)
    config = default()
    config.data.root = "/moved"
    said = refusal(save_run, tmp_path, config, SPECS._replace(vocabulary=Vocabulary(("sky",), 8)))
    assert "data.root='/moved' has another vocabulary" in said and f"with --init {tmp_path}" in said
    save_run(tmp_path, config, SPECS._replace(licence="another wording"))


def test_a_run_from_before_a_share_of_levels_was_there_has_none_of_it(tmp_path):
    save_run(tmp_path, default(), SPECS)
    file = tmp_path / "config.json"
    fields = json.loads(file.read_text())
    assert fields["levels"].pop("start") > 0 and fields["levels"].pop("one_sided") > 0
    fields["levels"].update(joint=0.35, image=0.08, layout_given_image=0.12, independent=0.15, one_call=1 / 3)
    file.write_text(json.dumps(fields))
    levels = load_run(tmp_path)[0].levels
    assert (levels.start, levels.one_sided, levels.joint, levels.one_call) == (0.0, 0.0, 0.35, 1 / 3)
    assert "levels.start=0.0, now " in refusal(save_run, tmp_path, default(), SPECS)


def test_data_that_grew_are_other_data(tmp_path):
    save_run(tmp_path, default(), SPECS)  # as a run from before examples were counted
    save_run(tmp_path, default(), SPECS._replace(examples=12))
    assert load_run(tmp_path)[1].examples == 12
    said = refusal(save_run, tmp_path, default(), SPECS._replace(examples=13))
    assert said == (
        f"{tmp_path} was trained on 12 examples, data.root='' now has 13: choose another --workdir, with --init "
        f"{tmp_path} to begin with its weights"
    )


class Captioned:
    """A data set of captions alone."""

    name, licence, image, labels = "captioned", "", SPECS.image, SPECS.labels

    def __init__(self, *captions):
        self.captions = captions

    def __len__(self):
        return len(self.captions)

    def __getitem__(self, index):
        return Example(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.int32), self.captions[index])


def test_a_config_is_fitted_to_the_captions_there_are(tmp_path):
    """Without captions there is no text; the captions' length is made room for, up to one that is a mistake rather."""
    config, said = load_file(str(ROOT / "configs" / "folder.py")), []
    for captions in ((), ("!",)):
        fitted_config, specs = fitted(config, Captioned(captions, ()), said.append)
        assert (fitted_config.text.encoder, specs.vocabulary, specs.examples) == ("none", None, 2)
        check(fitted_config)
    assert said == 2 * ["captioned: no captions, so it is trained without text (config.text.encoder=none)"]
    fitted_config, specs = fitted(config, Captioned(("red sky",), ()), said.append)
    assert fitted_config.to_dict() == config.to_dict() and specs.vocabulary.words == ("red", "sky") and len(said) == 2
    fitted_config, specs = fitted(config, Captioned(("\u5929" * 41,)), said.append)
    assert fitted_config.text.length == specs.vocabulary.length == 48 and config.text.length == 32
    assert said[2] == "captioned: captions have up to 41 words, so config.text.length is 48"
    said = refusal(fitted, config, Captioned(("sky " * 300,)))
    assert said.endswith("is 32: expected shorter captions, or --config.text.length=300")
    override(config, "text.length", "4")
    said = refusal(fitted, config, Captioned(("sky " * 5,)))
    assert said.startswith("captioned: caption has 5 words, the limit is 4: ") and said.endswith("config.text.length=5")
    override(config, "text.length", "300")
    assert fitted(config, Captioned(("sky " * 300,)))[0].text.length == 300
    override(config, "text.encoder", "learned")
    assert refusal(build_specs, config, Captioned(())).endswith("expected some, or config.text.encoder=none")


def test_a_run_without_text_needs_no_other_guidance():
    file = str(ROOT / "configs" / "folder.py")
    assert load_file(file, [("text.encoder", "none")]).sample.guidance == (1.0, 1.0)
    with pytest.raises(ValueError, match=r"expected \(1, 1\) without a text"):
        load_file(file, [("text.encoder", "none"), ("sample.guidance", "(1,2)")])


def test_run_files_are_read_with_care(tmp_path):
    save_run(tmp_path, default(), SPECS)
    file = tmp_path / "config.json"
    fields = json.loads(file.read_text())
    del fields["optim"], fields["data"]["flip"]  # as a run from before these fields
    file.write_text(json.dumps(fields))
    assert load_run(tmp_path)[0].to_dict() == default().to_dict()
    save_run(tmp_path, default(), SPECS)
    file.write_text(json.dumps({"train": {"stepz": 3}}))
    assert f"{file}: train.stepz: there is no such field" in refusal(load_run, tmp_path)
    file.write_text(json.dumps({"train": {"steps": "x"}}))
    assert f"{file}: train.steps='x': expected int" in refusal(load_run, tmp_path)
    file.write_text("{")
    assert f"{file} cannot be read as JSON" in refusal(load_run, tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="is not a run directory: there is no config.json"):
        load_run(tmp_path)
