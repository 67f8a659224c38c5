"""Settings: file, environment, command line, in this order; and where each value comes from."""

from pathlib import Path

import pytest

from collegium.config import Settings, default_data_dir, explain, load_settings
from collegium.domain.errors import UsageError

HOME = {"HOME": "/home/ann"}


def write(folder: Path, text: str) -> Path:
    path = folder / "collegium.toml"
    path.write_text(text, "utf-8")
    return path


def source_of(settings: Settings, key: str) -> str:
    return next(row.source for row in explain(settings) if row.key == key)


def test_defaults_stand_without_a_file(place: Path):
    settings = load_settings(None, HOME)
    assert settings.data_dir == Path("/home/ann/.local/share/collegium")
    assert settings.store == "sqlite:////home/ann/.local/share/collegium/collegium.db"
    assert settings.model is None
    assert settings.config_file is None
    assert {row.source for row in explain(settings)} == {"default", "there is none"}


def test_the_later_layer_wins(place: Path):
    write(place, 'model = "a:1"\n[inputs]\nmax_files = 1\n[worker]\nconcurrency = 3\n')
    environ = {**HOME, "COLLEGIUM_INPUTS__MAX_FILES": "2", "COLLEGIUM_MODEL": "b:2"}
    settings = load_settings(None, environ, {"model": "c:3"})
    assert (settings.model, settings.inputs.max_files, settings.worker.concurrency) == ("c:3", 2, 3)
    assert source_of(settings, "model") == "the command line"
    assert source_of(settings, "inputs.max_files") == "COLLEGIUM_INPUTS__MAX_FILES"
    assert source_of(settings, "worker.concurrency") == "collegium.toml"
    assert source_of(settings, "models.cache") == "default"


def test_the_store_follows_the_data_folder(place: Path):
    settings = load_settings(None, {**HOME, "COLLEGIUM_DATA_DIR": "~/x"}, {})
    assert settings.store.endswith("/x/collegium.db")
    assert "~" not in settings.store


def test_database_url_is_honoured_behind_our_own_variable(place: Path):
    environ = {**HOME, "DATABASE_URL": "sqlite:////a.db"}
    assert load_settings(None, environ).store == "sqlite:////a.db"
    assert source_of(load_settings(None, environ), "store") == "DATABASE_URL"
    assert load_settings(None, {**environ, "COLLEGIUM_STORE": "sqlite:////b.db"}).store == "sqlite:////b.db"


def test_paths_in_the_file_are_relative_to_the_file(place: Path, tmp_path: Path):
    folder = tmp_path / "project"
    (folder / "agents").mkdir(parents=True)
    (folder / "agents" / "b.toml").touch()
    path = write(folder, 'data_dir = "data"\n[agents]\nfiles = ["mine.toml"]\n[journal]\nchain_key_file = "key"\n')
    settings = load_settings(path, HOME)
    assert settings.data_dir == folder / "data"
    assert settings.agents.files == [folder / "agents" / "b.toml", folder / "mine.toml"]
    assert settings.journal.chain_key_file == folder / "key"


def test_the_environment_names_the_file(place: Path, tmp_path: Path):
    path = write(tmp_path, 'model = "a:1"')
    assert load_settings(None, {**HOME, "COLLEGIUM_CONFIG": str(path)}).model == "a:1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modle = 'x'", "there is no setting 'modle'; did you mean 'model'?"),
        ("[inputs]\nmax_file = 3", "there is no setting 'inputs.max_file'; did you mean 'inputs.max_files'?"),
        ("[models]\nopenai_api_key = 'x'", "keys are read from the environment only"),
        ("[worker]\nconcurrency = 'many'", 'worker.concurrency = "many": it should be a valid integer'),
        ("[worker]\nconcurrency = 0", "worker.concurrency = 0: it should be greater than or equal to 1"),
        ("[models.prices.'a:b']\ninput = 1", "models.prices.a:b.input"),
        ("inputs = 3", "inputs = 3"),
        ("data_dir = 3", "data_dir = 3"),
        ("model = ", "is not valid TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_said(place: Path, text: str, said: str):
    write(place, text)
    with pytest.raises(UsageError) as caught:
        load_settings(None, HOME)
    assert said in caught.value.message
    assert "collegium.toml" in caught.value.message or text == "data_dir = 3"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("COLLEGIUM_INPUTS__MAX_FILE", "1", "did you mean 'inputs.max_files'?"),
        ("COLLEGIUM_INPUT__MAX_FILES", "1", "did you mean COLLEGIUM_INPUTS__"),
        ("COLLEGIUM_WORKER__CONCURRENCY", "0", "COLLEGIUM_WORKER__CONCURRENCY: worker.concurrency"),
        ("COLLEGIUM_MODELS__PRICES", "{", "written as JSON"),
    ],
)
def test_what_is_wrong_in_the_environment_is_said(place: Path, variable: str, value: str, said: str):
    with pytest.raises(UsageError) as caught:
        load_settings(None, {**HOME, variable: value})
    assert said in caught.value.message


def test_a_file_that_is_named_has_to_be_there(place: Path):
    with pytest.raises(UsageError, match=r"no configuration file nowhere\.toml"):
        load_settings(Path("nowhere.toml"), HOME)


def test_tables_by_model_name_come_from_both_places(place: Path):
    write(place, '[models.prices."a:b"]\ninput_usd = 0.5\noutput_usd = 1\n')
    environ = {**HOME, "COLLEGIUM_MODELS__PROFILES": '{"a:*": {"can_plan": true}}'}
    settings = load_settings(None, environ)
    assert str(settings.models.prices["a:b"].input_usd) == "0.5"
    assert settings.models.profiles["a:*"].can_plan is True


def test_no_secret_is_shown(place: Path):
    environ = {**HOME, "OPENAI_API_KEY": "sk-verysecretindeed", "DATABASE_URL": "postgres://u:hunter2@h/d"}
    text = str(explain(load_settings(None, environ)))
    assert "hunter2" not in text
    assert "verysecret" not in text
    assert "postgres://u:****@h/d" in text
    assert "****deed" in text


def test_settings_built_directly_read_nothing(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLLEGIUM_MODEL", "a:1")
    write(place, 'model = "b:2"')
    assert Settings(data_dir=place).model is None


def test_the_data_folder_follows_the_platform():
    assert default_data_dir({**HOME, "XDG_DATA_HOME": "/data"}) == Path("/data/collegium")
    assert default_data_dir({**HOME, "XDG_DATA_HOME": "relative"}) == default_data_dir(HOME)
