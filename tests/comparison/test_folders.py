"""Folders of trainings have names that every file system takes."""

from sase_attn.comparison.folders import folder_names
from sase_attn.genotype import genotypes


def test_safe_labels_stay_and_others_become_safe_and_different():
    kept = ["plain", "constant 1.25", "se (its own gain)", "found"]
    inline = [str(genotypes["sase"]), str(genotypes["sase_paper"])]
    strange = ["a/b", "a:b", "Found", 'a"<>|?*\\', "x" * 300]
    names = folder_names([*kept[:3], *inline, *strange])
    assert [names[label] for label in kept[:3]] == kept[:3]
    for name in names.values():
        assert not set(name) & set('<>:"/\\|?*') and len(name) < 80
    assert len({name.casefold() for name in names.values()}) == len(names)
    both = folder_names(["found", "Found"])
    assert both["found"].casefold() != both["Found"].casefold()
