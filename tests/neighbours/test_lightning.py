"""Lightning's trainer."""

import pytest
import timm
import torch
from torch.nn.functional import cross_entropy

import sase_attn  # noqa: F401  registers the models with timm
from sase_attn.weights import read_checkpoint

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}


def classifier():
    """A network with what Lightning asks for."""
    from lightning import LightningModule

    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.model = timm.create_model("sase_resnet20", layers=[1, 1, 1])

        def training_step(self, batch, index):
            return cross_entropy(self.model(batch[0]), batch[1])

        def validation_step(self, batch, index):
            self.log("loss", self.training_step(batch, index))

        test_step = validation_step

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Classifier()


def loader():
    data = torch.utils.data.TensorDataset(torch.randn(8, 3, 16, 16), torch.randint(10, (8,)))
    return torch.utils.data.DataLoader(data, batch_size=4)


@pytest.mark.works_with("lightning", "`Trainer.fit` with validation, its checkpoint read back by `test`")
def test_fit(tmp_path):
    from lightning import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

    kept = ModelCheckpoint(tmp_path, monitor="loss")
    trainer = Trainer(max_epochs=1, callbacks=[kept], default_root_dir=tmp_path, **QUIET)
    data = loader()
    trainer.fit(classifier(), data, data)
    loss = float(trainer.callback_metrics["loss"])
    (tested,) = trainer.test(classifier(), data, ckpt_path=kept.best_model_path, weights_only=True, verbose=False)
    assert tested["loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.works_with("lightning", "stochastic weight averaging, which averages the statistics of norms at the end")
def test_weight_averaging(tmp_path):
    from lightning import Trainer
    from lightning.pytorch.callbacks import StochasticWeightAveraging

    network, means = classifier(), []
    norm = network.model.layer1[0].se.norm

    def seen(norm, inputs):
        if norm.momentum is None:  # in the pass at the end
            means.append(inputs[0].mean((0, 2, 3)))

    norm.register_forward_pre_hook(seen)
    averaging = StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1)
    Trainer(max_epochs=2, callbacks=[averaging], default_root_dir=tmp_path, **QUIET).fit(network, loader())
    assert len(means) == norm.num_batches_tracked == 2 and norm.momentum == 0.1
    torch.testing.assert_close(norm.running_mean, torch.stack(means).detach().mean(0))


@pytest.mark.works_with(
    "lightning", "a checkpoint with a criterion's weights and hyperparameters, by `read_checkpoint`"
)
def test_its_checkpoint_is_read(tmp_path):
    from lightning import LightningModule, Trainer

    class Classifier(LightningModule):
        def __init__(self, lr):
            super().__init__()
            self.save_hyperparameters()
            self.model = timm.create_model("sase_resnet20", layers=[1, 1, 1])
            self.criterion = torch.nn.CrossEntropyLoss(torch.ones(10))

        def training_step(self, batch, index):
            return self.criterion(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)

    data = torch.utils.data.TensorDataset(torch.randn(4, 3, 16, 16), torch.randint(10, (4,)))
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = Trainer(max_epochs=1, accelerator="cpu", enable_checkpointing=False, default_root_dir=tmp_path, **quiet)
    network = Classifier(lr=0.1)
    trainer.fit(network, torch.utils.data.DataLoader(data, batch_size=4))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = timm.create_model("sase_resnet20", layers=[1, 1, 1])
    again.load_state_dict(read_checkpoint(tmp_path / "last.ckpt", again))
    wanted = network.model.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in again.state_dict().items())
