"""The sample configuration says what the code says."""

import re
from pathlib import Path

import yaml

from homeserver.config import Config, parse
from homeserver.config.sample import render_sample

SAMPLE = Path(__file__).parents[3] / "config.sample.yaml"


def test_the_committed_sample_is_the_rendered_one() -> None:
    assert SAMPLE.read_text() == render_sample(), "run: atrium config sample > config.sample.yaml"


def test_the_sample_loads_as_it_is_with_every_default() -> None:
    config = parse(render_sample(), source="sample", base=Path(), environment={})
    assert config == parse("server: {name: example.com}", source="short", base=Path(), environment={})


def test_every_option_uncommented_is_yaml_with_a_known_place(tmp_path: Path) -> None:
    uncommented = re.sub(r"^#( *(?:- )?[a-z_]+:)", r"\1", render_sample(), flags=re.MULTILINE)
    raw = yaml.safe_load(uncommented)
    assert set(raw) == set(Config.model_fields)
    raw["server"] |= {"signing_key_path": "x"}
    (tmp_path / "index.html").touch()
    raw["web_client"]["path"] = str(tmp_path)
    assert raw["listeners"][0]["port"] == 8008
    assert raw["rate_limits"]["message"] == {"per_second": 10, "burst": 100}
    text = yaml.safe_dump(raw)
    config = parse(text, source="all", base=Path(), environment={})
    assert config.auth == parse("server: {name: a.b}", source="", base=Path(), environment={}).auth


def test_every_option_is_explained() -> None:
    lines = render_sample().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"^#? +(- )?[a-z_]+:", line):
            assert re.match(r"^ *# \S", lines[number - 1]), f"{line.strip()} has no sentence above it"


def test_what_init_is_told_stands_in_the_file() -> None:
    config = parse(render_sample("b.org", "/srv/atrium", 8448), source="init", base=Path(), environment={})
    assert config.server.name == "b.org"
    assert config.server.data_dir == Path("/srv/atrium")
    assert [(each.address, each.port) for each in config.listeners] == [("127.0.0.1", 8448)]


def test_init_can_be_told_to_listen_everywhere() -> None:
    config = parse(render_sample("b.org", address="0.0.0.0"), source="init", base=Path(), environment={})
    assert [(each.address, each.port) for each in config.listeners] == [("0.0.0.0", 8008)]
