import pytest

from mcast.errors import ConfigError, NetworkMissing
from mcast.net.interfaces import Interface, choose_interface, list_interfaces


def interface(name: str, *addresses: str, up: bool = True, multicast: bool = True) -> Interface:
    return Interface(
        name=name, index=1, addresses=addresses, up=up, multicast=multicast, loopback=name == "lo", mtu=1500
    )


LO = interface("lo", "127.0.0.1", "::1", multicast=False)
LAN = interface("eth0", "10.77.0.5", "fe80::1")
LAB = interface("eth1", "10.78.0.5")
GROUP, GROUP6 = "239.77.7.1", "ff02::77"


@pytest.mark.parametrize("spec", ["10.77.0.5", "eth0", "10.77.0.0/24", "10.77.0.9/24", "fe80::1"])
def test_address_name_and_network_all_name_an_interface(spec: str) -> None:
    assert choose_interface(spec, GROUP, interfaces=[LO, LAN, LAB]) is LAN


def test_auto_takes_the_interface_of_the_nodes_own_address() -> None:
    assert choose_interface("auto", GROUP, near="10.78.0.5", interfaces=[LO, LAN, LAB]) is LAB


def test_auto_takes_the_only_interface_that_could_serve() -> None:
    down = interface("eth9", "10.79.0.5", up=False)
    assert choose_interface("auto", GROUP, near="elsewhere", interfaces=[LO, down, LAN]) is LAN
    assert choose_interface("auto", GROUP, interfaces=[LO]) is LO


def test_auto_refuses_to_guess_between_two() -> None:
    with pytest.raises(ConfigError, match=r"several .*eth0 .*eth1"):
        choose_interface("auto", GROUP, interfaces=[LO, LAN, LAB])


def test_of_several_that_match_the_one_with_the_own_address_is_meant() -> None:
    two = interface("eth2", "10.77.0.6")
    with pytest.raises(ConfigError, match=r"several .*eth0 .*eth2"):
        choose_interface("10.77.0.0/24", GROUP, interfaces=[LO, LAN, two])
    assert choose_interface("10.77.0.0/24", GROUP, near="10.77.0.6", interfaces=[LO, LAN, two]) is two


@pytest.mark.parametrize("near", ["127.0.0.1", "127.0.1.1", "::1"])
def test_an_own_address_on_loopback_keeps_to_loopback(near: str) -> None:
    assert choose_interface("auto", GROUP, near=near, interfaces=[LAN, LO]) is LO


@pytest.mark.parametrize("spec", ["eth7", "10.99.0.1", "10.99.0.0/16", "not an interface"])
def test_what_does_not_exist_is_answered_by_what_does(spec: str) -> None:
    with pytest.raises(NetworkMissing) as caught:
        choose_interface(spec, GROUP, interfaces=[LO, LAN])
    assert repr(spec) in caught.value.what
    assert "lo (127.0.0.1 ::1), eth0 (10.77.0.5 fe80::1)" in caught.value.remedy


def test_a_group_needs_an_address_of_its_own_ip_version() -> None:
    with pytest.raises(NetworkMissing, match="no IPv6 address") as caught:
        choose_interface("eth1", GROUP6, interfaces=[LO, LAN, LAB])
    assert "eth0" in caught.value.remedy and "eth1" not in caught.value.remedy
    assert choose_interface("eth0", GROUP6, interfaces=[LO, LAN, LAB]) is LAN
    with pytest.raises(NetworkMissing, match="no interface has an IPv6 address: use an IPv4 group"):
        choose_interface("eth1", GROUP6, interfaces=[LAB])


def test_an_interface_that_is_down_or_without_multicast_names_the_command() -> None:
    with pytest.raises(NetworkMissing, match="ip link set eth0 up"):
        choose_interface("eth0", GROUP, interfaces=[interface("eth0", "10.77.0.5", up=False)])
    with pytest.raises(NetworkMissing, match="ip link set eth0 multicast on"):
        choose_interface("eth0", GROUP, interfaces=[interface("eth0", "10.77.0.5", multicast=False)])


def test_loopback_serves_though_it_has_no_multicast_flag() -> None:
    assert choose_interface("lo", GROUP, interfaces=[LO]) is LO


def test_loopback_takes_only_interface_local_ipv6_groups() -> None:
    with pytest.raises(ConfigError, match="ff01::/16"):
        choose_interface("lo", GROUP6, interfaces=[LO])
    assert choose_interface("lo", "ff01::77", interfaces=[LO]) is LO


def test_this_machines_loopback_is_found() -> None:
    chosen = choose_interface("127.0.0.1", GROUP)
    assert chosen in list_interfaces()
    assert chosen.loopback and chosen.up and chosen.mtu >= 16_384
