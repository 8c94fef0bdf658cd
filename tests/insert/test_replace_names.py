"""`replace` finds every squeeze-and-excitation module of the networks that people use, on the meta device."""

import warnings

import pytest
import timm

from sase_attn.insert import replace


@pytest.mark.parametrize(
    "name, count",
    [
        ("seresnet50", 16),
        ("seresnextaa101d_32x8d", 33),
        ("legacy_seresnet50", 16),
        ("legacy_senet154", 50),
        ("efficientnetv2_rw_t", 29),
        ("tf_efficientnet_b2", 23),
        ("mobilenetv3_large_100", 8),
        ("fbnetv3_b", 18),
        ("lcnet_100", 2),
        ("hardcorenas_a", 8),
        ("mnasnet_small", 10),
        ("regnety_008", 14),
        ("rexnetr_200", 13),
        ("ghostnetv2_100", 7),
        ("repghostnet_100", 7),
        ("cs3se_edgenet_x", 24),
        ("cspnext_s", 4),
        ("coatnet_0_rw_224", 5),
        ("maxvit_tiny_rw_224", 11),
        ("gcvit_xtiny", 11),
        ("ese_vovnet39b", 4),
        ("tresnet_l", 27),
        ("nf_regnet_b1", 20),
        ("dm_nfnet_f0", 12),
        ("repvit_m1_0", 10),
        ("fastvit_mci0", 3),
        ("mobileone_s4", 12),
        ("haloregnetz_b", 17),
        ("efficientvit_m1", 2),
        ("efficientvim_m1", 2),
        ("shvit_s1", 2),
        ("lcnetv2_small", 4),
        ("rdnet_tiny", 15),
    ],
)
def test_all_of_them_in_networks_that_people_use(name, count):
    """On the meta device; the rest of the state dict stays."""
    model = timm.create_model(name, device="meta")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = replace(model, "se", with_="tiled_se", dry_run=True)
        assert [r.kept for r in report] == [True] * count
        assert len(replace(model, "se", with_="eca")) == count
        with pytest.raises(ValueError, match="nothing to replace"):
            replace(model, "se", with_="eca")
