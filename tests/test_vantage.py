"""What the agent says of its place: real namespaces, hostile files and variables, nothing to read at all."""

import json
import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import latch, netlink, place, surroundings
from probe.lab.namespaces import in_isolation
from probe.surroundings import Way
from probe.vantage import landlock_abi, look, on_link, tentative
from tests.test_netlink import WORLD, error, in_world, ip, only_root_is_mapped, refused

NO_NETLINK = partial(netlink.ask, open_socket=refused)


def facts(**more: Any) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(look(**more))))


def without_proc() -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", "/proc"], check=True)


# --- the network, from the real kernel ---

ROUTES = {
    "default via 10.9.0.1 dev eth0",
    "default via fd09::1 dev eth0",
    "default dev far table 77",
    "10.9.0.0/24 dev eth0",
    "fd09::/64 dev eth0",
    "10.77.0.0/16 via fd09::77 dev eth0",
    "prohibit 192.0.2.0/24",
    "blackhole 198.51.100.0/24",
    "unreachable 2001:db8:3::/48",
}
BATCH = WORLD + (
    "route add default via 10.9.0.1\nroute add default dev far table 77\nroute add 128.0.0.0/2 dev far\n"
    "-6 route add default via fd09::1\n-6 route add 2000::/3 dev far\n"
)


@pytest.mark.real("namespaces")
def test_the_network_by_netlink() -> None:
    seen = in_world(facts, BATCH)
    assert sorted(seen["interfaces"]) == ["eth0", "far", "lo"]
    assert {"lo 127.0.0.1/8", "eth0 10.9.0.2/24", "eth0 fd09::2/64"} <= set(seen["addresses"])
    assert set(seen["routes"]) >= ROUTES
    assert not any("10.9.0.255" in route or "ff00" in route for route in seen["routes"])
    assert set(seen["on_link"]) == {"10.9.0.0/24", "fd09::/64", "fe80::/64", "fd09::2/128"} | {
        net for net in seen["on_link"] if net.startswith("fe80::") and net.endswith("/128")
    }
    assert seen["netns"].startswith("net:[")


@pytest.mark.real("namespaces")
def test_proc_and_netlink_agree_on_what_is_near() -> None:
    def work() -> Any:
        # Over an IPv6 next hop /proc/net/route shows an IPv4 route as if it had none.
        ip("route del 10.77.0.0/16\n")
        return facts(), facts(ask=NO_NETLINK)

    by_netlink, by_proc = in_world(work, BATCH)
    assert set(by_netlink["on_link"]) == set(by_proc["on_link"])
    assert set(by_netlink["interfaces"]) == set(by_proc["interfaces"])
    assert {"10.9.0.2/32", "eth0 fd09::2/64"} <= set(by_proc["addresses"])
    assert {"default via 10.9.0.1 dev eth0", "unreachable 198.51.100.0/24"} <= set(by_proc["routes"])


@pytest.mark.real("namespaces")
def test_without_proc() -> None:
    def work() -> Any:
        before = latch.own_namespace()
        without_proc()
        return facts(), before

    seen, before = in_world(work)
    assert "10.9.0.0/24" in seen["on_link"]
    assert (seen["seccomp"], seen["no_new_privs"], seen["landlock_abi"]) == (None, None, None)
    release = tuple(map(int, os.uname().release.split("-")[0].split(".")[:2]))
    assert seen["netns"] == (before if release >= (6, 11) else None)  # a pidfd tells it since then


@pytest.mark.real("namespaces")
def test_without_proc_and_netlink() -> None:
    def work() -> Any:
        without_proc()
        return facts(ask=NO_NETLINK), tentative(ask=NO_NETLINK)

    seen, waiting = in_world(work)
    assert (seen["on_link"], seen["interfaces"], seen["addresses"], seen["routes"]) == (None, [], [], [])
    assert not waiting


@pytest.mark.real("namespaces")
@pytest.mark.skipif(only_root_is_mapped(), reason="no second uid in this user namespace")
def test_as_nobody() -> None:
    def work() -> Any:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        return facts()

    seen = in_world(work)
    assert (seen["uid"], seen["capabilities"]) == (65534, [])
    assert "10.9.0.0/24" in seen["on_link"]
    assert "eth0 10.9.0.2/24" in seen["addresses"]


@pytest.mark.real("namespaces")
def test_duplicate_address_detection() -> None:
    def work() -> Any:
        # Without a carrier an address stays tentative until somebody could object.
        before = tentative(), tentative(ask=NO_NETLINK)
        ip("-6 addr add fd0a::1/64 dev eth0\nlink set far down\n")
        return before, (tentative(), tentative(ask=NO_NETLINK))

    quiet = "link set lo up\nlink add eth0 type veth peer name far\nlink set eth0 addrgenmode none\nlink set far addrgenmode none\nlink set eth0 up\nlink set far up\n"
    assert in_world(work, quiet) == [[False, False], [True, True]]


def test_an_address_that_failed_the_check_is_not_waited_for() -> None:
    assert not tentative(lambda path: "fd990000000000000000000000000002 02 40 00 48 eth0\n")
    assert not tentative(lambda path: "zz 02 40 00 zz\n\x00\n40 40 40 40 40 40\n")


def test_landlock_is_asked_only_where_no_filter_may_kill() -> None:
    for mode, asked in (("0", True), ("1", False), ("2", False), ("", False)):
        seen = look(lambda path, mode=mode: f"Seccomp:\t{mode}\n")  # type: ignore[misc]
        assert (seen.landlock_abi is not None) is asked
    assert (landlock_abi() or 0) >= 0


# --- /proc/net/route ---


def row(device: str, destination: str, mask: str, flags: str = "0001", gateway: str = "00000000") -> str:
    return f"Iface\n{device}\t{destination}\t{gateway}\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (row("eth0", "0000630A", "00FFFFFF"), ("10.99.0.0/24",)),
        (row("eth0", "0000630A", "00FFFFFF", gateway="0100630A"), ()),
        (row("*", "000200C0", "00FFFFFF", "0201"), ()),  # prohibit: nobody is near
        (row("*", "006433C6", "00FFFFFF"), ()),  # blackhole has no flag
        (row("tun0", "00000000", "00000080"), ()),
        (row("eth0", "zz", "00FFFFFF"), ()),
        (row("eth0", "-1", "00FFFFFF"), ()),
        ("Iface\neth0\n\n\x00 1 2\n", ()),
    ],
)
def test_near_by_proc(text: str, expected: tuple[str, ...]) -> None:
    assert on_link(text, None) == expected


def test_ipv6_rejects_lo_and_multicast_are_not_near() -> None:
    line = "{} {} " + "0" * 32 + " 00 " + "0" * 32 + " 00000100 00000001 00000000 {} {}\n"
    rows = [
        line.format("fd99" + "0" * 28, "40", "00000001", "eth0"),
        line.format("20010db8" + "0" * 24, "30", "00200200", "eth0"),
        line.format("0" * 31 + "1", "80", "80200001", "lo"),
        line.format("ff02" + "0" * 28, "40", "00000001", "eth0"),
        line.format("2" + "0" * 31, "03", "00000001", "tun0"),
        line.format("fd98" + "0" * 28, "81", "00000001", "eth0"),
    ]
    assert on_link("", "".join(rows)) == ("fd99::/64",)


def test_too_many_networks_are_not_told_in_part() -> None:
    many = [Way("unicast", f"10.{n // 256}.{n % 256}.0/24", "eth0") for n in range(1025)]
    assert surroundings.near(many) is None
    assert len(surroundings.near(many[:1024]) or ()) == 1024
    assert len(surroundings.routes(many)) == surroundings.MOST


def test_a_kernel_without_ipv6_has_addresses_too() -> None:
    trie = "Main:\n  |-- 10.9.0.2\n     /32 host LOCAL\n  |-- 10.9.0.255\n     /32 link BROADCAST\n  |-- zz\n     /32 host LOCAL\n"
    assert surroundings.parse_fib_trie(trie * 2) == ("10.9.0.2/32",)


# --- files and variables ---


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("proxy.example:3128", "proxy.example:3128"),
        ("HTTP://proxy.example:3128/", "http://proxy.example:3128"),
        ("socks5h://127.0.0.1", "socks5h://127.0.0.1"),
        ("http://[fd00::1]:3128/x", "http://[fd00::1]:3128"),
        ("http://ada:s3cret@proxy.example:3128", "http://…@proxy.example:3128"),
        ("http://ada:s3:c@ret@proxy.example:3128", "http://…@proxy.example:3128"),
        ("ada:s3cret@[fd00::1]:3128", "…@[fd00::1]:3128"),
        ("http://proxy.example:3128/s3cret?s3cret#s3cret", "http://proxy.example:3128"),
        ("http://ada:s3/cret@proxy.example:3128", "http://…"),  # or a path with an @
        ("http://proxy.example/s3cret@x", "http://…"),
        ("http://ada:s3cret", "http://…"),
        ("ada:s3cret", "…"),
        ("http://proxy.example:3128\nX: s3cret", "http://…"),
        ("http://proxy.example:3128\n", "http://…"),
        ("http://fd00::1:3128", "http://…"),
        ("http://s3cret%40proxy:3128", "http://…"),
        ("http://pröxy.example:3128", "http://…"),
        ("http://proxy.ex\udcffample", "http://…"),
        ("s3 cret://proxy.example", "…"),
        ("http://" + "a" * 300, "http://…"),
        ("\\\\ada:s3cret@proxy", "…"),
    ],
)
def test_a_proxy_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert place.redacted(url) == shown
    assert "s3" not in shown


@given(
    st.text(alphabet="abc:/?#%.@ \n\\[]", max_size=12),
    st.text(alphabet="abc:/?#%.@ \n\\[]", max_size=12),
    st.sampled_from(["http://", "https://", "socks5://", ""]),
)
def test_no_credential_is_ever_shown(before: str, after: str, scheme: str) -> None:
    secret = "QZ"
    assert secret not in place.redacted(f"{scheme}u{before}:{secret}{after}@host:3128")
    assert secret not in place.redacted(f"{scheme}host:3128/{before}{secret}{after}")


def test_proxy_variables() -> None:
    environ = {
        "HTTPS_PROXY": "http://ada:s3cret@proxy:3128",
        "http_proxy": "http://proxy:3128",
        "ALL_PROXY": "",
        "NO_PROXY": "internal.example, ,10.0.0.0/8,",
        "no_proxy": "localhost",
    }
    assert place.proxies(environ) == (
        "http_proxy=http://proxy:3128",
        "HTTPS_PROXY=http://…@proxy:3128",
        "NO_PROXY=2 entries",
        "no_proxy=1 entry",
    )


def test_resolvers() -> None:
    text = "# nameserver 1.1.1.1\nnameserver 127.0.0.11\nnameserver\nnameserver zz\nnameserver fe80::1%eth0 x\n"
    assert place.resolvers(text) == ("127.0.0.11", "fe80::1%eth0")
    assert place.resolvers(None) == ()
    huge = "".join(f"nameserver 10.{n >> 16}.{n >> 8 & 255}.{n & 255}\n" for n in range(70000))
    assert len(place.resolvers(huge)) == 64
    (odd,) = place.resolvers("nameserver fe80::1%" + "\x01é" * 5000)
    assert len(odd) <= 128
    assert odd.isascii()
    assert odd.isprintable()


@pytest.mark.parametrize(
    ("files", "environ", "kind"),
    [
        ({}, {}, None),
        ({"/.dockerenv": ""}, {}, "docker"),
        ({"/run/.containerenv": ""}, {"container": "oci"}, "podman"),
        (
            {"/.dockerenv": "", "/proc/version": "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016\n"},
            {},
            "gvisor",
        ),
        ({"/proc/version": "Linux version 4.19.0-gvisor #1 SMP\n"}, {}, "gvisor"),
        ({"/proc/version": "Linux version 4.4.0-210-generic #1 SMP\n"}, {}, None),
        ({}, {"container": "systemd-nspawn"}, "systemd-nspawn"),
        ({}, {"container": "../../etc\n"}, None),
        ({"/proc/1/comm": "bwrap\n"}, {}, "bubblewrap"),
        ({"/proc/1/comm": "systemd\n"}, {}, None),
        ({"/proc/1/cgroup": "0::/\n"}, {}, None),
        ({"/proc/1/cgroup": "1:name=systemd:/docker/0123abcd\n"}, {}, "docker"),
        ({"/proc/self/cgroup": "0::/system.slice/docker-0123abcd.scope\n"}, {}, "docker"),
        ({"/proc/self/cgroup": "0::/system.slice/docker.service\n"}, {}, None),  # the engine itself, on its host
        (
            {"/proc/self/cgroup": "0::/kubepods.slice/kubepods-besteffort.slice/cri-containerd-0.scope\n"},
            {},
            "kubernetes",
        ),
        ({"/proc/self/cgroup": "0::/machine.slice/libpod-0123abcd.scope/container\n"}, {}, "podman"),
        ({"/proc/1/cgroup": "1:cpu:/lxc/box\n"}, {}, "lxc"),
        ({"/proc/1/cgroup": "0::/lxc.payload.box\n"}, {}, "lxc"),
        ({"/proc/1/cgroup": "0::/system.slice/lxcfs.service\n"}, {}, None),
    ],
)
def test_container(files: dict[str, str], environ: dict[str, str], kind: str | None) -> None:
    assert place.container(files.get, environ, files.__contains__) == kind


def test_unix_sockets_are_found_and_not_touched(tmp_path: Path) -> None:
    agent, bus = tmp_path / "agent", tmp_path / "bus"
    environ = {"SSH_AUTH_SOCK": str(agent), "XDG_RUNTIME_DIR": str(tmp_path)}
    bus.write_text("no socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(agent))
        listening.listen()
        listening.setblocking(False)
        found = set(place.unix_sockets(environ, os.getuid())) - set(place.unix_sockets({}, os.getuid()))
        assert found == {"SSH_AUTH_SOCK"}  # the name alone, not where it leads
        with pytest.raises(BlockingIOError):
            listening.accept()
    for odd in ("\0", "\udcff", "x" * 10000, str(tmp_path / "nothing")):
        assert place.unix_sockets({"SSH_AUTH_SOCK": odd}, 65534) == place.unix_sockets({}, 65534)


@pytest.mark.real("namespaces")
def test_a_docker_socket_is_told_once() -> None:
    def work() -> Any:
        subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("/run/docker.sock")
            return facts()["sockets"]

    assert in_isolation(work) in (["/var/run/docker.sock"], ["/run/docker.sock"])


# --- any content ---


@given(st.text(max_size=300), st.dictionaries(st.sampled_from(["HTTP_PROXY", "no_proxy", "container"]), st.text()))
def test_no_content_breaks_it(text: str, environ: dict[str, str]) -> None:
    def read(path: str) -> str:
        return "" if path == "/proc/self/status" else text

    seen = look(read, environ)
    told = [*seen.interfaces, *seen.addresses, *seen.routes, *seen.resolvers, seen.container or ""]
    assert all(len(one) <= 128 and all(" " <= char <= "~" for char in one) for one in told)
    assert max(map(len, (seen.interfaces, seen.addresses, seen.routes, seen.resolvers))) <= 64
    assert look(lambda path: text.replace("Seccomp", ""), {}).landlock_abi is None
    tentative(read)


HEX = st.text(alphabet="0123456789abcdefF-*_x", max_size=34)
WORDS: Callable[[int], st.SearchStrategy[str]] = lambda n: st.lists(HEX, min_size=n, max_size=n).map(" ".join)  # noqa: E731


@given(st.lists(WORDS(11), max_size=5), st.lists(WORDS(10), max_size=5))
def test_any_words_in_the_tables(four: list[str], six: list[str]) -> None:
    ways = surroundings.parse_routes("Iface\n" + "\n".join(four), "\n".join(six))
    assert isinstance(surroundings.near(ways or ()), tuple)
    assert isinstance(surroundings.routes(ways or ()), tuple)
    surroundings.parse_if_inet6("\n".join(six))


def test_what_netlink_refuses_is_read_from_proc() -> None:
    files = {
        "/proc/net/dev": "Inter-| x\n face |y\n    lo: 1 2\n  eth0: 3 4\n",
        "/proc/net/route": row("eth0", "0000630A", "00FFFFFF"),
    }
    seen = look(files.get, {}, ask=lambda request: error(1))
    assert (seen.interfaces, seen.routes, seen.on_link) == (
        ("lo", "eth0"),
        ("10.99.0.0/24 dev eth0",),
        ("10.99.0.0/24",),
    )
