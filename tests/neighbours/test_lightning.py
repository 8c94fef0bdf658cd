"""Lightning's trainer."""

import pytest
import timm
import torch
from torch.nn.functional import cross_entropy

import sase_attn  # noqa: F401  registers the models with timm


@pytest.mark.works_with("lightning", "`Trainer.fit` with validation, its checkpoint read back by `test`")
def test_fit(tmp_path):
    from lightning import LightningModule, Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

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

    data = torch.utils.data.TensorDataset(torch.randn(8, 3, 16, 16), torch.randint(10, (8,)))
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    kept = ModelCheckpoint(tmp_path, monitor="loss")
    trainer = Trainer(max_epochs=1, accelerator="cpu", callbacks=[kept], default_root_dir=tmp_path, **quiet)
    network = Classifier()
    trainer.fit(network, loader, loader)
    loss = float(trainer.callback_metrics["loss"])
    (tested,) = trainer.test(Classifier(), loader, ckpt_path=kept.best_model_path, weights_only=True, verbose=False)
    assert tested["loss"] == pytest.approx(loss, rel=1e-5)
