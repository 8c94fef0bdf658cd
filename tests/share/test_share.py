"""Publishing and fetching models, end to end against a local Hub.

huggingface_hub reads its environment when it is imported, so the client side runs in processes of its own: `publish`
pushes and saves, then `fetch` loads everything in a fresh one. The tests below look at what the two report.
"""

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import HubServer

SHIPPED = "sase_resnet20.fashion_mnist_6k"  # its weights come with the package
SMALL, GENOTYPE = "sase_resnet20", "sase_paper"  # the genotype is not the default one
LARGE, PLAIN, PLAIN_REPO = "sase_resnet18", "resnet18", "timm/resnet18.a1_in1k"
HOSTILE = 'my "best" <i>run<i> `v1` [x](y)\n---\n# end'
CARD: Any = {"metrics": {"CIFAR-10 top-1 (%)": 93.25}, "license": "mit", "description": "A network for the test."}


def run_client(server: HubServer, folder: Path, job: str) -> dict[str, Any]:
    """Run `job`, a function of this file, in a fresh process whose Hub is `server`; its return value comes as JSON."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(folder / f"home_{job}"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_TOKEN": server.token,
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, __file__, job, str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def outcome(call: Callable[[], Any]) -> Any:
    """What `call` returns, or [class, message] of the error that it raises."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001
        return [type(error).__name__, str(error)]


# ---- client processes


def publish(folder: Path) -> dict[str, Any]:
    """Push and save models with random weights, keep an input and the logits of each, and try what must fail."""
    import huggingface_hub
    import timm
    import torch
    from timm.layers import SEModule

    from sase_attn import share
    from sase_attn.commands.main import main

    def randomised(name: str, **args: Any) -> Any:
        """In eval mode, every parameter and statistic random: nothing equals what a new model starts with."""
        model = timm.create_model(name, **args).eval()
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                noise = 0.01 * torch.randn_like(tensor) if tensor.ndim > 1 else 0.3 * torch.rand_like(tensor)
                tensor.add_(noise)
        return model

    torch.manual_seed(1234)
    models = {
        "org/genotype": randomised(SMALL, genotype=GENOTYPE),
        "org/inputs": randomised(SMALL, num_classes=7, in_chans=2, drop_rate=0.1, drop_path_rate=0.2),
        "org/trained": randomised(LARGE, num_classes=5),
        "org/attached": randomised("attached", base="test_resnet", attn=GENOTYPE, after="layer4.*.bn2"),
        PLAIN_REPO: randomised(PLAIN),
    }
    logits = {}
    for repo, model in models.items():
        x = torch.randn(2, next(model.parameters()).shape[1], 64, 64)
        logits[repo] = (x, model(x))
    shipped = timm.create_model(SHIPPED, pretrained=True).eval()
    logits["org/shipped"] = (x := torch.randn(2, 3, 32, 32), shipped(x))
    torch.save(logits, folder / "logits.pt")

    small = models["org/genotype"]
    large = models["org/trained"]
    urls = {repo: outcome(lambda repo=repo: share.push(models[repo], repo, **CARD)) for repo in models}
    file, model = timm.get_pretrained_cfg(SHIPPED).file, SHIPPED.partition(".")[0]
    urls["shipped"] = outcome(lambda: main(["push", file, "--model", model, "--repo", "org/shipped"]))
    urls["private"] = outcome(lambda: share.push(small, "org/private", private=True))
    urls["branch"] = outcome(lambda: share.push(small, "org/branches", revision="dev"))
    urls["untouched"] = outcome(lambda: share.push(small, "org/untouched"))  # the server has a README there
    urls["compiled"] = outcome(lambda: share.push(torch.compile(small), "org/compiled"))
    large.to(memory_format=torch.channels_last)
    urls["channels last"] = outcome(lambda: share.push(large, "org/channels_last"))
    stream = torch.get_rng_state()
    share.save(small, folder / "saved", **CARD)
    same_stream = torch.equal(stream, torch.get_rng_state())
    (folder / "empty").mkdir()
    share.save(small, folder / "empty", repo_id="org/genotype")
    hostile = {"metrics": {"<b>x</b>\n# top-1": 50.0}, "license": "mit\npipeline_tag: text"}
    share.save(small, folder / HOSTILE, **hostile)

    changed, unpooled = timm.create_model(SMALL), timm.create_model("test_resnet")
    changed.layer1[0].conv1 = torch.nn.Conv2d(16, 16, 5, padding=2)
    unpooled.maxpool = torch.nn.Identity()  # the same weights, another network
    unwritable = timm.create_model("test_resnet", block_args={"attn_layer": SEModule})
    forgetful = timm.create_model(SMALL)
    del forgetful._model_args
    errors = {
        "no org": outcome(lambda: share.push(small, "name")),
        "two slashes": outcome(lambda: share.push(small, "a/b/c")),
        "characters": outcome(lambda: share.model_card(small, repo_id="org/na me")),
        "revision": outcome(lambda: share.push(small, "org/genotype", revision="missing")),
        "bad token": outcome(lambda: share.push(small, "org/refused", token="other")),
        "arguments": outcome(lambda: share.push(unwritable, "org/refused")),
        "forgotten arguments": outcome(lambda: share.push(forgetful, "org/refused")),
        "changed": outcome(lambda: share.push(changed, "org/refused")),
        "changed without weights": outcome(lambda: share.save(unpooled, folder / "refused")),
        "no classifier": outcome(lambda: share.push(torch.nn.Linear(1, 1), "org/refused")),
        "in use": outcome(lambda: share.save(small, folder / "saved")),
    }
    for name in ("busy", "broken", "denied"):  # the server answers their commits with 429, 500 and 403
        errors[f"push {name}"] = outcome(lambda name=name: share.push(small, f"org/push-{name}"))
    urls["recovered"] = outcome(lambda: share.push(small, "org/push-recovered"))
    del os.environ["HF_TOKEN"]
    errors["no token"] = outcome(lambda: share.push(small, "org/refused"))
    huggingface_hub.constants.ENDPOINT = "http://127.0.0.1:9"
    errors["unreachable"] = outcome(lambda: share.push(small, "org/refused", token="any"))
    return {
        "urls": urls,
        "errors": errors,
        "same stream": same_stream,
        "parameters": sum(parameter.numel() for parameter in small.parameters()),
    }


def fetch(folder: Path) -> dict[str, Any]:
    """Load what `publish` made, as a user does, and what is missing or damaged on the server."""
    time.sleep = lambda seconds: None  # huggingface_hub waits between its attempts
    import huggingface_hub
    import timm
    import torch

    from sase_attn import share

    def pull_error(name: str) -> str:
        try:
            timm.create_model(name, pretrained=True)
        except Exception as error:  # noqa: BLE001
            return share.pull_error(error, name)
        return "a model came back"

    logits = torch.load(folder / "logits.pt")
    sources = {repo: f"hf-hub:{repo}" for repo in logits} | {"saved": f"local-dir:{folder / 'saved'}"}
    sources |= {"org/branches": "hf-hub:org/branches@dev", "empty": f"local-dir:{folder / 'empty'}"}
    sources |= {"org/compiled": "hf-hub:org/compiled", "org/channels_last": "hf-hub:org/channels_last"}
    same_as = dict.fromkeys(("saved", "empty", "org/branches", "org/compiled"), "org/genotype")
    same_as["org/channels_last"] = "org/trained"

    def is_equal(name: str) -> bool:
        x, wanted = logits[same_as.get(name, name)]
        return torch.equal(timm.create_model(sources[name], pretrained=True).eval()(x), wanted)

    equal = {name: outcome(lambda name=name: is_equal(name)) for name in sources}
    small = timm.create_model("hf-hub:org/genotype", pretrained=True)
    adapted = timm.create_model("hf-hub:org/genotype", pretrained=True, num_classes=3, in_chans=1)
    given, taken = small.state_dict(), adapted.state_dict()
    others = sorted(key for key in given if not torch.equal(given[key], taken[key]))
    stem = torch.allclose(taken["conv1.weight"], given["conv1.weight"].sum(1, keepdim=True))

    x, wanted = logits[PLAIN_REPO]
    warm = timm.create_model(LARGE, pretrained=True).eval()
    cold, plain = timm.create_model(LARGE).eval(), timm.create_model(PLAIN)
    names = ("missing", "weightless", "cut", "short", "damaged", "notjson", "branches@none", "busy", "broken")
    errors = {name: pull_error(f"hf-hub:org/{name}") for name in names}
    errors["recovering"] = pull_error("hf-hub:org/recovered")
    for name in ("renamed", "recovered"):
        sources[name], same_as[name] = f"hf-hub:org/{name}", "org/genotype"
        equal[name] = outcome(lambda name=name: is_equal(name))
    huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT = huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT = 0.2
    errors["slow"] = pull_error("hf-hub:org/slow")
    errors["cut again"] = pull_error("hf-hub:org/cut")
    errors["unknown"] = pull_error("sase_resnet20000")
    for module in (huggingface_hub.constants, huggingface_hub.file_download):
        module.HUGGINGFACE_CO_URL_TEMPLATE = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    errors["unreachable"] = pull_error("hf-hub:org/elsewhere")
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    errors["offline"] = pull_error("hf-hub:org/elsewhere")
    equal["offline, from the cache"] = outcome(lambda: is_equal("org/genotype"))
    return {
        "equal": equal,
        "genotype": small._model_args.get("genotype"),
        "adapted": [list(adapted(torch.randn(1, 1, 32, 32)).shape), others, stem],
        "warm": (warm(x) - wanted).abs().max().item(),
        "cold": (cold(x) - wanted).abs().max().item(),
        "added": sorted({key.split(".")[2] for key in warm.state_dict().keys() - plain.state_dict().keys()}),
        "errors": errors,
    }


# ---- tests


@pytest.fixture(scope="module")
def server() -> Iterator[HubServer]:
    with HubServer() as server:
        server.add_file("org/branches", "README.md", b"main", revision="main")
        server.add_file("org/branches", ".gitattributes", b"", revision="dev")
        server.add_file("org/untouched", "README.md", b"written by hand")
        for name, status in {"busy": 429, "broken": 500, "denied": 403}.items():
            server.fail("POST", f"org/push-{name}/commit", status)
        server.fail("POST", "org/push-recovered/preupload", 503, times=1)
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def published(server: HubServer, folder: Path) -> dict[str, Any]:
    return run_client(server, folder, "publish")


@pytest.fixture(scope="module")
def fetched(server: HubServer, folder: Path, published: dict[str, Any]) -> dict[str, Any]:
    files = server.repos["org/genotype"]["main"]
    config, weights = files["config.json"], files["model.safetensors"]
    server.add_file("org/weightless", "config.json", config)
    server.add_file("org/notjson", "config.json", config[:-10])
    for repo, content in {"org/cut": weights, "org/short": weights, "org/damaged": weights[:-100]}.items():
        server.add_file(repo, "config.json", config)
        server.add_file(repo, "model.safetensors", content)
    for repo in ("org/busy", "org/broken", "org/recovered", "org/slow", "org/moved"):
        server.add_file(repo, "config.json", config)
        server.add_file(repo, "model.safetensors", weights)
    server.fail("GET", "org/busy/resolve/main/model.safetensors", 429)
    server.fail("GET", "org/broken/resolve/main/model.safetensors", 500)
    server.fail("GET", "org/recovered/resolve/main/model.safetensors", 503, times=1)
    server.rename("org/renamed", "org/moved")
    server.delay("org/slow/resolve/main/model.safetensors", 1.0)
    server.truncate("org/cut", "model.safetensors")
    server.truncate("org/short", "model.safetensors", announce_whole=False)
    return run_client(server, folder, "fetch")


@pytest.mark.parametrize(
    "name",
    [
        "org/genotype",
        "org/shipped",
        "org/inputs",
        "org/trained",
        "org/attached",
        "org/compiled",
        "org/channels_last",
        PLAIN_REPO,
    ],
)
def test_pushed_model_loads_bit_equal(fetched: dict[str, Any], name: str) -> None:
    assert fetched["equal"][name] is True


@pytest.mark.parametrize("name", ["renamed", "recovered", "offline, from the cache"])
def test_loads_bit_equal_all_the_same(fetched: dict[str, Any], name: str) -> None:
    assert fetched["equal"][name] is True


def test_genotype_survives(server: HubServer, fetched: dict[str, Any]) -> None:
    config = json.loads(server.repos["org/genotype"]["main"]["config.json"])
    assert config["architecture"] == SMALL
    assert config["model_args"]["genotype"] == GENOTYPE
    weights = server.repos["org/genotype"]["main"]["model.safetensors"]
    header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    record = header["__metadata__"]["genotype"]
    assert config["pretrained_cfg"]["notes"] == [f"sase-attn attention: {record}"] and "channel_excite:fc_sig" in record
    assert fetched["genotype"] == GENOTYPE


def test_rates_of_a_run_stay_at_home(server: HubServer, published: dict[str, Any]) -> None:
    config = json.loads(server.repos["org/inputs"]["main"]["config.json"])
    arguments = config["model_args"]
    assert (config["num_classes"], arguments["in_chans"]) == (7, 2)
    assert "num_classes" not in arguments  # transformers gives it itself
    assert not arguments.keys() & {"drop_rate", "drop_path_rate"}


def test_loads_with_other_classes_and_channels(fetched: dict[str, Any]) -> None:
    shape, others, stem_is_the_sum_over_channels = fetched["adapted"]
    assert shape == [1, 3]
    assert others == ["conv1.weight", "fc.bias", "fc.weight"]
    assert stem_is_the_sum_over_channels


def test_only_safetensors_and_a_card_are_pushed(server: HubServer, published: dict[str, Any]) -> None:
    for repo in ("org/genotype", "org/inputs", "org/trained", "org/attached", "org/private", PLAIN_REPO):
        assert sorted(server.repos[repo]["main"]) == ["README.md", "config.json", "model.safetensors"]


def test_card(server: HubServer, published: dict[str, Any]) -> None:
    card = server.repos["org/genotype"]["main"]["README.md"].decode()
    header, body = card.removeprefix("---\n").split("---\n", 1)
    assert {"license: mit", "library_name: timm", "- sase-attn"} <= set(header.splitlines())
    arguments = json.dumps({"genotype": GENOTYPE, "num_classes": 10, "in_chans": 3, "global_pool": "avg"})
    for text in (
        "# Model card for genotype",
        "A network for the test.",
        f"- **Architecture:** `{SMALL}`",
        f"- **Arguments:** `{arguments}`",
        f"- **Parameters:** {published['parameters']:,}\n",
        "- **Image size:** 32 x 32",
        "  - CIFAR-10 top-1 (%): 93.25",
        "arxiv.org/abs/2411.08333",
    ):
        assert text in body
    usage = body.split("```python\n")[1].split("```")[0]
    assert usage.index("import sase_attn") < usage.index('timm.create_model("hf-hub:org/genotype", pretrained=True)')


def test_push_returns_the_page(server: HubServer, published: dict[str, Any]) -> None:
    assert published["urls"]["shipped"] == 0  # the command's
    assert published["urls"]["org/genotype"] == f"{server.url}/org/genotype"
    assert published["urls"]["branch"] == f"{server.url}/org/branches/tree/dev"


def test_push_to_a_branch(server: HubServer, fetched: dict[str, Any]) -> None:
    assert list(server.repos["org/branches"]["main"]) == ["README.md"]
    assert fetched["equal"]["org/branches"] is True


def test_private_is_asked_for(server: HubServer, published: dict[str, Any]) -> None:
    created = {body["name"]: body for _, path, body in server.requests if path == "/api/repos/create"}
    assert "private" in (created["private"].get("visibility"), "private" * bool(created["private"].get("private")))
    assert created["genotype"].get("visibility") != "private" and not created["genotype"].get("private")


def test_existing_readme_is_kept(server: HubServer, published: dict[str, Any]) -> None:
    assert server.repos["org/untouched"]["main"]["README.md"] == b"written by hand"
    assert "model.safetensors" in server.repos["org/untouched"]["main"]


def test_save_round_trip(folder: Path, fetched: dict[str, Any]) -> None:
    assert sorted(os.listdir(folder / "saved")) == ["README.md", "config.json", "model.safetensors"]
    assert fetched["equal"]["saved"] is True and fetched["equal"]["empty"] is True
    card = (folder / "saved" / "README.md").read_text()
    assert "local-dir:saved" in card and "93.25" in card
    assert "hf-hub:org/genotype" in (folder / "empty" / "README.md").read_text()


def test_save_leaves_only_whole_folders(folder: Path, published: dict[str, Any]) -> None:
    names = {name for name in os.listdir(folder) if not name.startswith("home_")}
    assert names == {"empty", "logits.pt", "saved", HOSTILE}


def test_a_card_shows_names_as_they_are(folder: Path, published: dict[str, Any]) -> None:
    card = (folder / HOSTILE / "README.md").read_text()
    _, header, body = card.split("---\n", 2)
    assert [line for line in header.splitlines() if "pipeline_tag" in line] == [
        "pipeline_tag: image-classification",
        'license: "mit\\npipeline_tag: text"',
    ]
    title = r'# Model card for my "best" \<i\>run\<i\> \`v1\` \[x\](y) --- \# end'
    assert [line for line in body.splitlines() if line.startswith("# ")] == [title]
    assert r"  - \<b\>x\</b\> \# top-1: 50" in body.splitlines()
    usage = body.split("```python\n")[1].split("```\n")[0]
    (call,) = [node for node in ast.walk(ast.parse(usage)) if isinstance(node, ast.Call) and node.args]
    assert ast.literal_eval(call.args[0]) == f"local-dir:{HOSTILE}"


def test_save_keeps_the_random_stream(published: dict[str, Any]) -> None:
    assert published["same stream"]


@pytest.mark.parametrize(
    "case, kind, words",
    [
        ("no org", "ValueError", ["wanted \"org/name\", got 'name'", "no organisation"]),
        ("two slashes", "ValueError", ["got 'a/b/c'", "more than one slash"]),
        ("characters", "ValueError", ["got 'org/na me'", "alphanumeric"]),
        ("no token", "HubError", ["wanted a token, got none", "hf auth login"]),
        ("bad token", "HubError", ["wanted a valid token", "401", "hf auth login"]),
        ("revision", "HubError", ["org/genotype@missing", "wanted an existing revision", "create_branch"]),
        ("unreachable", "HubError", ["wanted an answer from http://127.0.0.1:9", "Connect", "check the network"]),
        ("arguments", "HubError", ["got block_args={'attn_layer'", "JSON", "registered model"]),
        ("forgotten arguments", "HubError", ["model._model_args", "timm>=1.0.31"]),
        ("changed", "HubError", ["layer1.0.conv1", "change only its weights"]),
        ("changed without weights", "HubError", ["other logits", "change only its weights"]),
        ("push busy", "HubError", ["push sase_resnet20 to org/push-busy", "429", "run again later"]),
        ("push broken", "HubError", ["wanted success from the Hub", "500", "run again later"]),
        ("push denied", "HubError", ["wanted a token that may write there", "403", "write access"]),
        ("no classifier", "HubError", ["cannot publish Linear", "timm.create_model"]),
        ("in use", "FileExistsError", ["wanted a new or empty folder"]),
    ],
)
def test_publishing_errors(published: dict[str, Any], case: str, kind: str, words: list[str]) -> None:
    raised, message = published["errors"][case]
    assert raised == kind
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize(
    "case, words",
    [
        ("busy", ["wanted success from the Hub", "429", "run again later"]),
        ("broken", ["wanted success from the Hub", "500", "run again later"]),
        ("recovering", ["wanted success from the Hub", "503", "run again later"]),
        ("slow", ["wanted an answer from http://", "Timeout", "check the network"]),
        ("missing", ["hf-hub:org/missing", "wanted a repository", "RepositoryNotFoundError", "check the name"]),
        ("weightless", ["wanted config.json and model.safetensors", "404", "check the files"]),
        ("cut", ["wanted a whole file", "cut short: run again"]),
        ("short", ["wanted a whole file", "Consistency check failed", "cut short: run again"]),
        ("cut again", ["wanted a whole file", "cut short: run again"]),
        ("damaged", ["wanted a whole safetensors file", "damaged"]),
        ("notjson", ["wanted JSON in config.json", "damaged"]),
        ("branches@none", ["wanted an existing revision", "name another"]),
        ("unknown", ["wanted a registered architecture", "import sase_attn"]),
        ("unreachable", ["wanted an answer from http://", "Connect", "check the network"]),
        ("offline", ["wanted access to the Hub", "unset HF_HUB_OFFLINE"]),
    ],
)
def test_loading_errors(fetched: dict[str, Any], case: str, words: list[str]) -> None:
    message = fetched["errors"][case]
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_warm_start_from_the_hub(fetched: dict[str, Any]) -> None:
    assert fetched["warm"] <= 1e-4 < fetched["cold"]
    assert fetched["added"] == ["se"]


if __name__ == "__main__":
    print(json.dumps({"publish": publish, "fetch": fetch}[sys.argv[1]](Path(sys.argv[2])), default=str))
