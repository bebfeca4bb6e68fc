"""The machine's own mirrors and certificates reach a build, and nothing else of the machine does."""

from pathlib import Path

from images import host
from images.host import Host, Repository

NOTHING = Host(ca=None, index=None, repositories=(), apt_options=())


def test_only_debians_own_repositories_are_handed_over() -> None:
    lines = [
        "http://mirror.corp/debian bookworm main",
        "http://mirror.corp/debian bookworm contrib",
        "http://mirror.corp/debian-security/ bookworm-security main",
        "https://other.example/apt bookworm stable",
        "https://other.example/apt bookworm-pgdg main",
        "http://mirror.corp/debian bookworm main",
    ]
    assert host.debian_repositories(lines) == (
        Repository("http://mirror.corp/debian", "bookworm"),
        Repository("http://mirror.corp/debian-security", "bookworm-security"),
    )


def test_proxies_are_handed_over_and_other_settings_are_not() -> None:
    lines = [
        'Acquire::http::Proxy "http://proxy:3128";',
        'Acquire::https::Proxy::mirror.corp "DIRECT";',
        'Acquire::Check-Valid-Until "false";',
        'APT::Install-Recommends "1";',
        'DPkg::Post-Invoke:: "rm -rf /";',
        'Acquire::http::Proxy "";',
        'Acquire::http::Proxy-Auto-Detect "/usr/bin/auto-apt";',
    ]
    assert host.proxy_options(lines) == tuple(lines[:3])


def test_a_machine_with_nothing_special_has_no_secrets() -> None:
    assert host.secrets(NOTHING) == {}


def test_a_mirror_replaces_the_sources_of_the_base_image() -> None:
    found = Host(None, None, (Repository("http://mirror.corp/debian", "bookworm"),), ())
    secrets = host.secrets(found)
    assert "http://mirror.corp/debian bookworm main" in str(secrets["apt-sources"])
    assert 'Dir::Etc::SourceList "/run/secrets/apt-sources";' in str(secrets["apt-conf"])
    assert 'Dir::Etc::SourceParts "/dev/null";' in str(secrets["apt-conf"])
    assert found.mirror == "http://mirror.corp/debian"


def test_an_index_and_an_authority_reach_both_pip_and_uv() -> None:
    secrets = host.secrets(Host(Path("/ca.crt"), "https://index.corp/simple", (), ()))
    assert secrets["ca"] == Path("/ca.crt")
    assert secrets["pip"] == "[global]\ncert = /run/secrets/ca\nindex-url = https://index.corp/simple\n"
    assert (
        secrets["uv"] == 'system-certs = true\n[[index]]\nurl = "https://index.corp/simple"\ndefault = true\n'
    )


def test_secrets_are_files_that_only_their_owner_reads(tmp_path: Path) -> None:
    files = host.write_secrets(
        {"pip": "index-url = https://user:word@corp\n", "ca": Path("/ca.crt")}, tmp_path
    )
    assert files == {"pip": tmp_path / "pip", "ca": Path("/ca.crt")}
    assert files["pip"].stat().st_mode & 0o777 == 0o600
