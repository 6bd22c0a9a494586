from mcast.protocol.configs import UNNAMED, ConfigName, Configs, is_outdated
from mcast.wire.messages import Configuration, Member

from .bench import CONFIG, KEY, STORAGE, epoch_log, genesis

ONE, OTHER = b"1" * 16, b"2" * 16
LESS = Configuration(2, CONFIG.members[:2])
MORE = Configuration(2, (*CONFIG.members[:2], Member("n4", b"4" * 16, "n4:7711")))


def test_the_newest_is_effective_until_it_is_cut() -> None:
    configs, log = Configs(), epoch_log([(1, "n1", 3)])
    assert (configs.newest, configs.voters, configs.name, configs.seq) == (None, {}, UNNAMED, 0)
    configs.adopt(genesis(), CONFIG)
    configs.adopt(log[3], LESS)
    assert (configs.newest, configs.seq) == (LESS, 4)
    assert configs.voters == {KEY["n1"]: STORAGE["n1"], KEY["n2"]: STORAGE["n2"]}
    configs.forget(3)
    assert (configs.newest, configs.seq) == (CONFIG, 1)


def test_what_cannot_come_back_is_forgotten() -> None:
    configs, log = Configs(), epoch_log([(1, "n1", 8)])
    for frame in log[:6]:
        configs.adopt(frame, CONFIG)
    configs.trim(4)
    configs.forget(4)
    assert configs.seq == 4
    configs.forget(3)
    assert configs.seq == 0, "below the commit nothing is ever cut"


def test_a_name_tells_apart_what_two_epochs_wrote_under_one_number() -> None:
    names = []
    for epoch, config in ((1, LESS), (2, MORE), (2, LESS)):
        configs, log = Configs(), epoch_log([(epoch, "n1", 1)])
        configs.adopt(log[1], config)
        names.append(configs.name)
    assert [(name.epoch, name.number) for name in names] == [(1, 2), (2, 2), (2, 2)]
    assert names[0].digest == names[2].digest != names[1].digest


def test_a_newer_and_other_one_makes_ours_outdated() -> None:
    own = ConfigName(3, 5, ONE)
    assert not is_outdated(own, [])
    assert is_outdated(own, [ConfigName(3, 6, OTHER)])
    assert is_outdated(own, [ConfigName(4, 5, OTHER)])
    assert is_outdated(own, [ConfigName(4, 4, OTHER)]), "epoch 4 had cut ours"
    assert not is_outdated(own, [ConfigName(2, 9, OTHER)]), "and ours what it wrote"
    assert not is_outdated(own, [ConfigName(4, 5, ONE)]), "repeated by a newer epoch"
    assert not is_outdated(own, [ConfigName(4, 6, OTHER), ConfigName(5, 5, ONE)]), "and what was written between is cut"


def test_the_number_alone_is_the_ablation() -> None:
    own = ConfigName(3, 5, ONE)
    assert not is_outdated(own, [ConfigName(4, 5, OTHER)], by_epoch=False)
    assert is_outdated(own, [ConfigName(2, 6, OTHER)], by_epoch=False)
