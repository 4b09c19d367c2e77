"""`luna schema` describes what the other commands write."""

from __future__ import annotations

import json

import pytest

from p2ch_luna.cli import main


@pytest.mark.parametrize(
    ("arguments", "title", "key"),
    [
        ([], "Report", "findings"),
        (["report"], "Report", "findings"),
        (["comparison"], "Comparison", "nodules"),
    ],
)
def test_it_prints_the_schema(
    capsys: pytest.CaptureFixture[str], arguments: list[str], title: str, key: str
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["schema", *arguments])
    schema = json.loads(capsys.readouterr().out)
    assert end.value.code == 0
    assert schema["title"] == title
    assert key in schema["required"]
    assert "schema_version" in schema["properties"]
