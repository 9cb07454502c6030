"""What a call that is refused says."""

import pytest


def message(function, *args, **kwargs) -> str:
    """The error of a call with bad input, which has to be one line."""
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        function(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)
