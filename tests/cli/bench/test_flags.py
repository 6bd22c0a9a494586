import pytest

from mcast.cli.app import main
from mcast.cli.bench import flags
from mcast.cli.exits import ExitCode
from mcast.limits import MTU_MAX
from mcast.net import interfaces
from mcast.net.interfaces import Interface


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        ("throughput --size 3", "--size"),
        ("throughput --events 0", "--events"),
        ("throughput --rounds 0", "--rounds"),
        ("throughput --nodes 99", "--nodes"),
        ("throughput --mtu 100", "--mtu"),
        ("throughput --sync never", "--sync"),
        ("throughput --clients 0", "--clients"),
        ("throughput --events 3 --clients 4", "--clients"),
        ("throughput --observers -1", "--observers"),
        ("throughput --observers 62", "--observers"),
        ("throughput --loss 1%,2%", "--loss"),
        ("throughput --loss most", "--loss"),
        ("latency --count 0", "--count"),
        ("latency --rate 0", "--rate"),
        ("latency --rate 1000000 --seconds 60", "--rate"),
        ("latency --rate 5 --seconds nan", "--seconds"),
        ("latency --at n1", "--at"),
        ("latency --size 100000", "--size"),
        ("latency --rounds 100", "--rounds"),
        ("latency --csv - --json", "--csv"),
        ("latency --csv no/such/folder/x.csv", "--csv"),
        ("latency --plot x.gif", "--plot"),
        ("query --level stale", "--level"),
        ("query --at n1", "--at"),
        ("query --clients 0", "--clients"),
        ("query --depth 10000", "--depth"),
        ("query --seconds 61", "--seconds"),
        ("query --nodes 0", "--nodes"),
        ("scale everything", "WHAT"),
        ("scale size --values 7", "--values"),
        ("scale loss --values 60", "--values"),
        ("scale size --size 12", "--size"),
        ("scale clients --events 10", "--events"),
        ("scale observers --nodes 0", "--nodes"),
        ("loss --loss ten", "--loss"),
        ("loss --loss 90%", "--loss"),
        ("loss --seconds 0", "--seconds"),
        ("loss --rate 0", "--rate"),
        ("loss --rate nan", "--rate"),
        ("loss --seed -1", "--seed"),
        ("failover --kind burn", "--kind"),
        ("failover --times 0", "--times"),
        ("failover --nodes 2", "--nodes"),
        ("failover --profile slow", "--profile"),
        ("failover --sync never", "--sync"),
        ("failover --rate 0", "--rate"),
        ("failover --kind stop --pause nan", "--pause"),
    ],
)
def test_an_impossible_option_is_refused_in_one_line(words: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words.split()]) == ExitCode.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"mcast: {flag} = ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(("carried", "taken"), [(65_536, MTU_MAX), (16_384, 16_384)])
def test_a_bench_takes_what_loopback_carries_unless_datagrams_get_lost_or_it_is_told(
    carried: int, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loopback = Interface("lo", 1, ("127.0.0.1",), up=True, multicast=False, loopback=True, mtu=carried)
    monkeypatch.setattr(interfaces, "list_interfaces", lambda: (loopback,))
    assert flags.datagram(None) == taken
    assert flags.datagram(None, lossy=True) == 1_500
    assert flags.datagram(9_000) == flags.datagram(9_000, lossy=True) == 9_000
