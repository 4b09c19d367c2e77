import pytest

from support.browser import start


def test_without_a_browser_a_test_fails_and_names_the_script_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.fail.Exception, match=r"no Chromium.*scripts/install_test_tools\.sh"):
        start()
