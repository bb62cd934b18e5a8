"""What a run's file may say: defaults, spellings, and the line in every complaint."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from headwater.errors import RequestError
from headwater.workflow.config import (
    Annotate,
    Asked,
    Config,
    Export,
    Extract,
    Fit,
    Report,
    Split,
    Sweep,
    parse_config,
)
from headwater.workflow.example import EXAMPLE
from headwater.workflow.marked import parse_marked, read_marked


def asked(text: str) -> Asked:
    return parse_config(parse_marked(text, "cfg.yaml"))


def complaint(text: str) -> str:
    with pytest.raises(RequestError) as raised:
        asked(text)
    return str(raised.value)


def test_options_are_spelled_as_on_the_command_line() -> None:
    config = asked(
        "out: o\nextract: {source: a, batch-size: 8, compile: off, rows_per_shard: 3}\n"
        "groups: a, b\ntarget: 2\nsplit: {train: 0.5, test: 5e-1, stratify: 'x,y'}\n"
        "fit: {methods: 'ERM, RWG'}\nexport:\nreport: page.html\n"
    ).config
    assert config.extract is not None
    assert (config.extract.batch_size, config.extract.compile, config.extract.rows_per_shard) == (8, "off", 3)
    assert (config.groups, config.target) == (["a", "b"], 2)
    assert (config.split.shares, config.split.stratify) == ({"train": 0.5, "test": 0.5}, ["x", "y"])
    assert config.fit is not None
    assert config.fit.methods == {"ERM": {}, "RWG": {}}
    assert config.export == Export()
    assert config.report == Report(out=Path("page.html"))


def test_short_forms_of_sections() -> None:
    config = asked("out: o\nstore: s\nsplit: part\nannotate: {table: t.csv}\nreport: false\nsweep:\n").config
    assert config.split == Split.model_validate({"column": "part"})
    assert config.split.shares == {}
    assert [str(each.table) for each in config.annotate] == ["t.csv"]
    assert config.report is None
    assert config.sweep == Sweep()
    methods = asked("out: o\nstore: s\nfit:\n  methods:\n    ERM:\n    DFR-val: {C: [1, 0.1]}\n").config.fit
    assert methods is not None
    assert methods.methods == {"ERM": {}, "DFR-val": {"C": [1, 0.1]}}


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("", 1, "the file is empty"),
        ("- a", 1, "must hold `key: value` lines, not a list"),
        ("out: o\nstore: [x", 2, "this is no YAML"),
        ("out: o\nstore: s\nout: o", 3, "the key 'out' stands here twice"),
        ("a: &a [*a]\nout: o", 1, "an anchor stands for itself"),
        ("out: o\n? [a]\n: 3", 2, "a key must be a word, not a list"),
        ("out: o\nstore: s\nexport: {out: \x07}", 1, "this is no YAML"),
        ("store: s", 1, "the key 'out' is missing"),
        ("out: o\nextract:\n  sorce: a", 3, "there is no key 'sorce' in extract (did you mean 'source'?)"),
        ("out: o\nstore: s\nmethods: a", 3, "there is no key 'methods'; there is out, store, extract"),
        ("out: o\nstore: s\nfit:\n  methods: ERM\n  sede: 1", 5, "(did you mean 'seed'?)"),
        (
            "out: o\nextract:\n  source: a\n  batch-size: 0",
            4,
            "extract.batch-size cannot be 0: input should be",
        ),
        ("out: o\nextract:\n  source: a\n  dtype: f8", 4, "extract.dtype cannot be 'f8'"),
        ("out: o\nextract: a", 2, "extract must hold `key: value` lines, not 'a'"),
        ("out: o\nannotate:\n- table: a\n- tabel: b\nstore: s", 4, "did you mean 'table'?"),
        ("out: o\nstore: s\nannotate: {key: k}", 3, "nothing to do: name a table"),
        ("out: o\nstore: s\nsplit:\n  train: 0.5\n  val: 0.6", 3, "the shares of a split sum to 1.1"),
        ("out: o\nstore: s\nsplit: {stratify: a}", 3, "a split is drawn by shares"),
        ("out: o\nstore: s\nfit: {methods: [ERM, {a: 1}]}", 3, "a list of methods holds names"),
        ("out: o\nstore: s\nfit: {methods: []}", 3, "no method is named"),
        ("out: o\nstore: s\nsweep: {draws: 3, grid: {l2: 1}}", 3, "give either draws or grid"),
        ("out: o\nstore: s\nsweep:\n  seeds: a", 4, "sweep.seeds: it takes how many, such as 3, or which"),
        ("out: o\nstore: s\nsweep:\n  seeds: [a,\n   b]", 4, "such as [0, 1, 2], not ['a', 'b']"),
        ("out: o\nstore: s\ngroups: [[a], b]", 3, "groups: it takes names or numbers of columns or levels"),
        ("out: o\nstore: s\ndevice: gpu", 3, "device: it takes auto, cpu, cuda or cuda:N, not 'gpu'"),
        ("out: o\nstore: s\ntarget: yes", 3, "target: it takes the name of a column"),
        ("out: o\nstore: s\nextract: {source: a}", 3, "either `extract` with a source of images, or `store`"),
        ("out: o\nstore: s\nfit: {methods: ERM}\nsweep: {}", 4, "give either `fit` or `sweep`"),
        ("out: o\nstore: s\nexport: true", 3, "there is no head to export"),
        ("lr: 1\nlogs_dir: a\nout: o", 3, "'out' cannot stand beside 'lr'"),
        ("lr: 1\nnum_epoch: 3", 2, "(did you mean 'num_epochs'?)"),
        ("lr: 1\nlogs_dir: a", 1, "the key 'checkpoint_path' is missing"),
        ("logs_dir: 3\ncheckpoint_path: c", 1, "logs_dir cannot be 3: it should be a path"),
        ("logs_dir: a\ncheckpoint_path: c\nlr: 0", 3, "lr cannot be 0: it should be a number above 0"),
        ("logs_dir: a\ncheckpoint_path: c\nlr: yes", 3, "lr cannot be True"),
        ("logs_dir: a\ncheckpoint_path: c\nnum_epochs: 1.5", 3, "should be a whole number, 1 or more"),
    ],
)
def test_a_complaint_names_the_file_and_the_line(text: str, line: int, sentence: str) -> None:
    said = complaint(text)
    assert said.startswith(f"cfg.yaml:{line}: "), said
    assert sentence in said
    assert "\n" not in said


def test_what_may_be_one_thing_or_another_is_complained_of_once() -> None:
    assert complaint("out: o\nstore: s\nsweep: {seeds: [a, b]}").endswith("[0, 1, 2], not ['a', 'b']")
    assert complaint("out: o\nstore: s\ngroups: [[a], 1.5]").endswith("not [['a'], 1.5]")


def test_a_file_that_multiplies_itself_is_refused() -> None:
    levels = "\n".join(f"k{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))
    assert "far too much" in complaint(f"k0: &a0 [1]\n{levels}\nout: o")


def test_what_is_no_text_file(tmp_path: Path) -> None:
    file = tmp_path / "cfg.yaml"
    for path, sentence in ((tmp_path, "is a folder"), (file, "does not exist")):
        with pytest.raises(RequestError, match=sentence):
            read_marked(path)
    file.write_bytes(b"out: o\nstore: \xff\n")
    with pytest.raises(RequestError, match=re.escape(f"{file}:2: the file is no text in UTF-8")):
        read_marked(file)


def test_lines_are_known_by_place() -> None:
    marked = parse_marked("a:\n  b:\n  - 1\n  - c: 2\n<<: {d: 1}\n", "f")
    assert marked.values == {"a": {"b": [1, {"c": 2}]}, "d": 1}
    assert [marked.line(*place) for place in (("a",), ("a", "b"), ("a", "b", 0), ("a", "b", 1, "c"))] == [
        1,
        2,
        3,
        4,
    ]
    assert marked.line("a", "b", 1, "c", "not there") == 4
    assert marked.line("nowhere") == 1


def test_the_contests_own_form() -> None:
    text = (
        'num_epochs: 5\nlr: 1e-2\nbatch_size: 64\nlogs_dir: "logs"\nnum_workers: 3\n'
        'checkpoint_path: "c/resnet50.pth"\n'
    )
    found = asked(text)
    config = found.config
    assert found.contest
    assert config.extract is not None
    assert config.extract.source == "train"
    assert (config.extract.weights, config.extract.workers) == ("c/resnet50.pth", 3)
    assert config.extract.preprocess == "inat-contest"
    assert (config.target, config.groups) == ("phylum", ["species"])
    assert config.fit is not None
    assert config.fit.methods == {
        "HierSampler": {"epochs": 5, "rate": 0.01, "batch": 64, "start": "c/resnet50.pth"}
    }
    assert config.export is not None
    assert config.export.out == Path("logs/resnet.pth")
    for more, source in (("data_path: pics", None), ("train_path: pics", None), ("", "pics")):
        other = parse_config(parse_marked(text + more, "cfg.yaml"), source=source).config
        assert other.extract is not None
        assert other.extract.source == "pics"


def test_the_example_is_a_config_that_names_every_key() -> None:
    config = asked(EXAMPLE).config
    assert config.sweep is not None
    sections: list[type[BaseModel]] = [Extract, Annotate, Split, Fit, Sweep, Report, Export]
    lines = EXAMPLE.splitlines()
    begin = {key: place for place, line in enumerate(lines) for key in re.findall(r"^(?:# )?(\w+):", line)}
    assert not Config.model_fields.keys() - begin.keys() - {"store"}  # which stands beside `extract`
    text = "".join(EXAMPLE)
    for section in sections:
        name = section.__name__.lower()
        own = text.partition(f"\n{name}:")[2] or text.partition(f"\n# {name}:")[2]
        own = re.split(r"\n\n", own)[0]
        missing = [key for key in section.model_fields if not re.search(rf"\b{key}\b", own)]
        assert (name, missing) == (name, [])
    # What is commented out reads as YAML, too, and fits.
    fit = "\n".join(
        line[2:] for line in EXAMPLE.splitlines() if re.match(r"# (fit:|  (methods|  |set|seed|views))", line)
    )
    assert Fit.model_validate(yaml.safe_load(fit)["fit"]).methods["HierRW"] == {"temper": 0.5}
