"""The command line: help, flags, and bad input in one line."""

import dataclasses
import json

import pytest
from small import call, command, config, finish, flags, result_of, settings

import flaxbert
from flaxbert import cli, demo, parallel, train
from flaxbert.config import Config

FIELDS = {f.name: f for f in dataclasses.fields(Config)}


def refused(capsys, *arguments):
    """The one line that a wrong command gets."""
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("flaxbert: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture
def parsed(monkeypatch):
    """What `finetune` would be run with."""
    seen = []
    monkeypatch.setattr(train, "finetune", lambda config: seen.append(config) or {
        "run": "r", "main_metric": "accuracy", "best": {}, "status": "finished"})
    return seen


# --- help

def test_help_lists_the_commands(capsys):
    for argument in ("--help", "help", "-h"):
        code, out, _ = call(capsys, argument)
        assert code == 0
        assert all(f"\n  {name} " in out for name in cli.COMMANDS)
    assert call(capsys)[0] == 2  # nothing asked
    assert set(cli.COMMANDS) >= {"finetune", "evaluate", "predict", "export", "tasks"}


def test_help_of_finetune_has_every_setting_in_its_group(capsys):
    code, out, _ = call(capsys, "finetune", "--help")
    assert code == 0
    group = None
    found = {}
    for line in out.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            group = line[:-1]
        elif line.startswith("  --"):
            found[line.split(":")[0].strip(" -")] = group
    assert found == {name: cli.GROUPS[f.metadata["group"]] for name, f in FIELDS.items()}
    assert "One of: jit, pmap." in out
    assert "--flagfile" in out
    assert "[2e-05]" in out


@pytest.mark.parametrize("name", ["evaluate", "predict", "export", "tasks"])
def test_help_of_the_other_commands(capsys, name):
    code, out, _ = call(capsys, name, "--help")
    assert code == 0
    assert all(f"  --{flag}: " in out for flag, _, _ in cli.COMMANDS[name].flags)


def test_tasks_and_version(capsys):
    assert "toy_pair" in call(capsys, "tasks")[1]
    assert call(capsys, "--version")[1].strip() == flaxbert.__version__


# --- flags

def test_every_setting_is_a_flag_of_its_type(capsys, parsed):
    value = {"bool": "true", "int": "7", "float": "0.5", "float | None": "0.5", "str": "x",
             "tuple[str, ...]": "a,b", "tuple[float, ...]": "1,2.5",
             "tuple[int, ...]": "1:3"}
    for name, f in FIELDS.items():
        kind = str(getattr(f.type, "__name__", f.type)) if not str(f.type).startswith("tuple") else str(f.type)
        of_name = {"recipe": "hf", "seeds_per_program": "4"}
        text = f.metadata["choices"][-1] if f.metadata["choices"] else of_name.get(name, value[kind])
        code, _, err = call(capsys, "finetune", f"--{name}={text}")
        assert code == 0, err
        want = {"bool": True, "int": 7, "float": 0.5, "float | None": 0.5, "tuple[str, ...]": ("a", "b"),
                "tuple[float, ...]": (1.0, 2.5), "tuple[int, ...]": (1, 2, 3)}.get(kind, text)
        assert getattr(parsed[-1], name) == want, name


def test_without_flags_the_defaults_hold(capsys, parsed):
    assert call(capsys, "finetune")[0] == 0
    assert parsed == [Config.make()]


def test_a_flag_overrides_the_recipe_even_with_the_default(capsys, parsed):
    call(capsys, "finetune", "--recipe=devlin", "--bias_correction=true", "--noskip_bad_rows")
    assert parsed == [Config.make(recipe="devlin", bias_correction=True, skip_bad_rows=False)]


def test_flagfile(capsys, parsed, tmp_path):
    (tmp_path / "flags.txt").write_text("# a comment\n--task=toy_sentence\n--learning_rate=3e-4\n\n--remat\n")
    call(capsys, "finetune", f"--flagfile={tmp_path}/flags.txt", "--seed=5")
    assert parsed == [Config.make(task="toy_sentence", learning_rate=3e-4, remat=True, seed=5)]


@pytest.mark.parametrize(("arguments", "words"), [
    (["finetun"], ["finetun: no such command; valid: finetune, demo, pretrain"]),
    (["finetune", "--lerning_rate=1"], ["lerning_rate", "learning_rate"]),
    (["finetune", "--batch_size=many"], ["batch_size", "many"]),
    (["finetune", "--learning_rate"], ["learning_rate"]),
    (["finetune", "--remat=perhaps"], ["remat", "perhaps"]),
    (["finetune", "mrpc"], ["mrpc: not a flag; write --flag=value"]),
    (["finetune", "--class_weights=1,heavy"], ["--class_weights=1,heavy: should be numbers"]),
    (["finetune", "--flagfile=/no/such/file"], ["/no/such/file"]),
    (["finetune", "--parallel=both"], ["--parallel=both", "valid: jit, pmap"]),
    (["finetune", "--recipe=soup"], ["valid: devlin, mosbach, zhang, hf"]),
    (["finetune", "--batch_size=0"], ["--batch_size=0: out of range"]),
    (["finetune", "--task=toy"], ["--task=toy: unknown", "toy_pair", "mrpc"]),
    (["finetune", "--output_dir=/proc/x/y"], ["--output_dir=/proc/x/y: cannot be written"]),
    (["evaluate"], ["--run is needed"]),
    (["export", "--run=x"], ["--to is needed"]),
    (["evaluate", "--run=/no/such/run"], ["/no/such/run: no run there"]),
    (["evaluate", "--run=x", "--label_column=y"], ["--label_column: not together with --run"]),
    (["predict", "--run=x", "--inputs=y"], ["inputs"])])
def test_bad_input_is_one_line_and_exit_code_2(capsys, arguments, words):
    line = refused(capsys, *arguments)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(("given", "words"), [
    (["--strategy=half"], "valid: full, freeze, head"),
    (["--frozen_layers=3"], "the head stands on 1 layers; valid: 0 to 1"),
    (["--optimizer=adem"], "adamw"),
    (["--max_length=512"], "--max_length=512"),
    (["--max_length=65"], "=65: the model has positions for 64 tokens; give --max_length=64 at most\n"),
    (["--devices=64"], "--devices=64: there are 4"),
    (["--data_dir=/no/such/folder"], "--data_dir=/no/such/folder: no such folder"),
    (["--text_columns=a"], "--text_columns"),
    (["--model=no such model"], "no such")])
def test_settings_that_do_not_fit_are_one_line(capsys, tiny, tmp_path, given, words):
    line = refused(capsys, "finetune", *flags(settings(tiny, tmp_path / "run")), *given)
    assert words in line, line
    assert not (tmp_path / "run").exists()


def test_longer_sequences_than_the_model_has_positions_for_name_both_flags(capsys, tiny, tmp_path):
    (tmp_path / "a.txt").write_text("One.\n\nTwo.\n\nThree.\n")
    line = refused(capsys, "pretrain", f"--train_file={tmp_path}/a.txt", f"--model={tiny}", "--max_length=65",
                   f"--output_dir={tmp_path}/run", "--compilation_cache=")
    assert "--max_length=64 at most, or train a new one with --max_position_embeddings=65" in line
    line = refused(capsys, "pretrain", f"--train_file={tmp_path}/a.txt", f"--model={tiny}", "--max_length=32",
                   f"--output_dir={tmp_path}/run", "--compilation_cache=", "--max_position_embeddings=16")
    assert "--max_length=16 at most, or train a new one with --max_position_embeddings=32" in line


def test_an_error_of_several_lines_becomes_one(capsys, monkeypatch):
    def broken(config):
        raise cli.InputError("first\n  second")
    monkeypatch.setattr(train, "finetune", broken)
    assert refused(capsys, "finetune") == "flaxbert: first second\n"


# --- commands

def test_a_failed_run_exits_with_1_and_says_the_step(capsys, tiny, tmp_path):
    given = settings(tiny, tmp_path / "run", learning_rate=1e5, optimizer="sgd", clip_norm=0.0, warmup=0.0)
    code, _, err = call(capsys, "finetune", *flags(given))
    assert code == 1
    assert "at step" in err.splitlines()[-1]
    assert result_of(tmp_path / "run")["status"] == "failed"


def test_the_same_names_in_python_and_on_the_command_line(tiny, tmp_path, capsys):
    given = settings(tiny, tmp_path / "a")
    code, out, _ = call(capsys, "finetune", *flags(given))
    assert code == 0
    assert f"run: {tmp_path}/a" in out
    assert "dev: loss" in out
    result = flaxbert.finetune(**{**given, "output_dir": str(tmp_path / "b")})
    assert result["best"] == result_of(tmp_path / "a")["best"]
    assert config(tiny, tmp_path / "a") == Config.make(**given)

    code, out, _ = call(capsys, "evaluate", f"--run={tmp_path}/a", "--split=test")
    assert code == 0
    assert json.loads(out)["split"] == "test"
    assert call(capsys, "export", f"--run={tmp_path}/a", f"--to={tmp_path}/out")[0] == 0
    (tmp_path / "in.txt").write_text("A good film.\n")
    code, out, err = call(capsys, "predict", f"--run={tmp_path}/out", f"--input={tmp_path}/in.txt")
    assert code == 0
    assert json.loads(out)["label"] in ("nature", "society")
    assert "1 rows" in err


def test_anybodys_predictions_for_columns_of_ones_own(capsys, tmp_path):
    (tmp_path / "dev.csv").write_text("text,mood\nOne.,glad\nTwo.,sad\nThree.,glad\nFour.,sad\n")
    (tmp_path / "said.tsv").write_text("index\tprediction\n0\tglad\n1\tsad\n2\tsad\n3\tsad\n")
    code, out, err = call(capsys, "evaluate", "--task=custom", f"--predictions={tmp_path}/said.tsv",
                          f"--file={tmp_path}/dev.csv", "--text_columns=text", "--label_column=mood")
    assert code == 0, err
    assert json.loads(out)["accuracy"] == 0.75


def test_as_a_program_bad_input_shows_no_traceback():
    code, out, err = finish(command("finetune", "--task=nothing"))
    assert (code, out) == (2, "")
    assert err.startswith("flaxbert: --task=nothing: unknown; valid: ")
    assert err.count("\n") == 1


def test_demo_draws_both_starts(capsys, tiny, tmp_path):
    folder = tmp_path / "demo"
    code, out, err = call(capsys, "demo", *flags(settings(tiny, folder)))
    assert code == 0, err
    scores = [float(line.rsplit(" ", 1)[1]) for line in out.splitlines() if line.startswith("from ")]
    assert len(scores) == 2
    assert (folder / "learning_curves.png").stat().st_size > 10_000
    starts = {name: json.loads((folder / name / "config.json").read_text())["settings"]["random_init"]
              for name in ("pretrained", "random")}
    assert starts == {"pretrained": False, "random": True}


def test_all_processes_of_a_pod_write_a_demo_where_the_main_one_says(monkeypatch, tmp_path):
    """By its clock, not by everybody's own."""
    monkeypatch.chdir(tmp_path)
    begun, said, runs = [], [], []

    def main_process(work):
        assert begun, "the pod is joined first"
        said.append(work())
        return "runs/of-the-main-process"
    monkeypatch.setattr(parallel, "start", begun.append)
    monkeypatch.setattr(parallel, "agree", main_process)
    monkeypatch.setattr(demo, "finetune", lambda given: runs.append(given.output_dir) or {"status": "interrupted"})
    result = demo.demo(Config.make(task="toy_pair"))
    assert len(said) == 1
    assert said[0].startswith("runs/demo-toy_pair-")
    assert result["run"] == f"{tmp_path}/runs/of-the-main-process"
    assert runs == [f"{result['run']}/pretrained"]
    demo.demo(Config.make(task="toy_pair", output_dir="mine"))
    assert len(said) == 1
    assert runs[1] == f"{tmp_path}/mine/pretrained"


def test_a_demo_to_go_on_with_has_a_name(capsys):
    line = refused(capsys, "demo", "--resume", "--compilation_cache=")
    assert "--resume: say which run with --output_dir" in line
