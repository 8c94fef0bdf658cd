"""What commands say of files that are missing or something else, of unknown names and of numbers that cannot be."""

import shlex

import pytest

from sase_attn.commands.main import main

pytestmark = pytest.mark.usefixtures("one_thread")

NO_FOLDER = "is a folder: wanted a"
SAID = {
    # options of a command, by the command's own help
    "search --bogus": "(see sase-attn search --help)",
    "search --trials 0": "unrecognized arguments: --trials 0; did you mean --trainings? (see sase-attn search --help)",
    "train --epoch 3": "; did you mean --epochs? (see sase-attn train --help)",
    "list ops more": "unrecognized arguments: more (see sase-attn list --help)",
    "synthesize one-shot sample x --heigth=3": "mean --height? (see sase-attn synthesize one-shot sample --help)",
    "detect train --bacbone x": "; did you mean --backbone? (see sase-attn detect train --help)",
    "--bogus list": "unrecognized arguments: --bogus (see sase-attn --help)",
    "run": "the following arguments are required: SCRIPT (see sase-attn run --help)",
    # unknown names
    "tile zzzzqqqq": "known: aimv2_1b_patch14_224, ",
    "detect train --recipe faster-rcnn": "did you mean",
    "search --space release --without nosuch": "known: affine, channel_excite:affine, ",
    "train --device nosuch": "unknown device 'nosuch': wanted cpu, cuda or cuda:N\n",
    # files and folders
    "evaluate /nonexist": "no such file or folder: /nonexist",
    "evaluate none.ckpt": "no such file or folder: none.ckpt",
    "evaluate none.pth --model sase_resnet20": "no such file or folder: none.pth",
    "evaluate empty --model sase_resnet20": "empty says itself which network it is",
    "evaluate empty/checkpoint.pt": "no such file or folder: empty/checkpoint.pt",
    "evaluate empty": "empty holds no network: wanted a run's folder",
    "evaluate picture.png": "is no file of weights, wanted safetensors or what torch.save wrote: it is a PNG image",
    "evaluate local-dir:none": "cannot load local-dir:none: FileNotFoundError: Config file not found: none/config.json",
    "evaluate srm_resnet20": "cannot make srm_resnet20: it has no pretrained weights; name a run's",
    "tile none.ckpt": "no such file or folder: none.ckpt",
    "tile none.pth --model seresnet18": "no such file or folder: none.pth",
    "tile picture.png": "it is a PNG image",
    "push picture.png --model sase_resnet20 --save-to out": "it is a PNG image",
    "push empty --model sase_resnet20 --save-to out": f"empty {NO_FOLDER}",
    "import picture.png --model sase_resnet50 -o a.safetensors": "it is a PNG image",
    "import empty --model sase_resnet50 -o a.safetensors": f"empty {NO_FOLDER}",
    "train --init-from picture.png": "it is a PNG image",
    "train --init-from empty": f"empty {NO_FOLDER}",
    "search --no-compare --output picture.png": "picture.png is a file: wanted a folder; name another",
    "train --output picture.png": "picture.png is a file: wanted a folder; name another",
    "synthesize sample picture.png": "picture.png is not of a generator",
    "synthesize one-shot sample picture.png": "picture.png holds no model of one image",
    "detect train": "data: wanted a folder, or train_annotations and train_images\n",
    "detect train --data empty": "empty has no annotations of train: wanted NAME.json and NAME/, ",
    "detect evaluate empty": "empty holds no best.safetensors: wanted the folder of a run",
    "detect evaluate picture.png": "picture.png is not of a detector: wanted a file that",
    "detect export empty -o a.onnx": "empty holds no best.safetensors: wanted the folder of a run",
    "detect export picture.png -o a.onnx": "picture.png is not of a detector: wanted a file that",
    "detect import picture.png -o a.safetensors": "it is a PNG image",
    "detect import empty -o a.safetensors": f"empty {NO_FOLDER}",
    "detect import empty -o a.pt": "the output must be named *.safetensors, got a.pt",
    "run empty": f"empty {NO_FOLDER}",
    # numbers
    "search --trainings 0": "trainings: wanted at least 1, got 0",
    "search --method race --trainings -1": "trainings: wanted at least 1, got -1",
    "signal --output s --budget 0": "--budget: expected at least 1, got 0",
    "detect train --recipe faster": "unknown detection recipe 'faster'",
    "detect train --epochs 0": "detection recipe field epochs: wanted at least 1, got 0",
    "detect train --min-size 900 --max-size 800": "max_size: wanted at least min_size, 900, got 800",
    "train --epochs 0": "epochs: wanted at least 1, got 0",
}


@pytest.mark.parametrize("line", SAID)
def test_one_line_says_what_is_wrong(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert main(shlex.split(line)) in (1, 2)
    err = capsys.readouterr().err
    assert err.startswith("sase-attn: error: ") and err.count("\n") == 1 and SAID[line] in err and len(err) < 600
    assert "resume" not in err
