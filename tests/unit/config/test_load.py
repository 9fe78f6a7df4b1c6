"""Every mistake in a configuration is named with its path, all at once, before anything starts."""

import pickle
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from homeserver.config import Config, ConfigError, dev_config, load, parse
from tests.support.certificates import self_signed


def read(text: str, base: Path = Path("/etc/atrium"), **environment: str) -> Config:
    return parse(text, source="config.yaml", base=base, environment=environment)


def mistakes(text: str, **environment: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        read(text, **environment)
    return dict(caught.value.mistakes)


def test_a_name_is_all_that_is_needed() -> None:
    config = read("server: {name: example.com}")
    assert config.server.name == "example.com"
    assert config.server.data_dir == Path("/etc/atrium/data")
    assert config.server.signing_key == Path("/etc/atrium/data/signing.key")
    assert config.rooms.default_version == "12"
    assert not config.registration.enabled
    assert config.rate_limits.login is not None
    assert not config.development


def test_all_mistakes_are_named_at_once_each_with_its_path() -> None:
    found = mistakes("""
        server: {name: "no spaces here", data_dri: x}
        listeners: [{port: 99999}, {adress: 1.2.3.4}]
        auth: {access_token_lifetime: soon}
        registration: {enabled: true, flows: [[email]]}
        media: {max_upload: large}
        """)
    assert set(found) == {
        "server.name",
        "server.data_dri",
        "listeners.0.port",
        "listeners.1.adress",
        "auth.access_token_lifetime",
        "registration.flows.0",
        "media.max_upload",
    }
    assert found["server.data_dri"] == "there is no such option; did you mean data_dir?"
    assert found["listeners.1.adress"].endswith("did you mean address?")


def test_a_file_that_does_not_exist_is_a_mistake_with_its_path(tmp_path: Path) -> None:
    self_signed(tmp_path, "there")
    text = "server: {name: a.b}\noutbound: {extra_ca_files: [there.pem, missing.pem]}"
    with pytest.raises(ConfigError) as caught:
        read(text, base=tmp_path)
    assert [path for path, _ in caught.value.mistakes] == ["outbound.extra_ca_files.1"]
    assert "No such file" in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["example.com", "localhost", "example.com:8448", "1.2.3.4", "1.2.3.4:80", "[::1]", "[2001:db8::1]:8448"],
)
def test_server_names_of_the_specification_are_accepted(name: str) -> None:
    assert read(f"server: {{name: '{name}'}}").server.name == name


@pytest.mark.parametrize(
    "name", ["", "exa mple", "example.com:", "example.com:99999", "[::1", "a:b:c", "ü.de", "x" * 300]
)
def test_other_names_are_refused(name: str) -> None:
    assert "server.name" in mistakes(f"server: {{name: '{name}'}}")


def test_environment_overrides_the_file_and_is_named_in_mistakes() -> None:
    config = read(
        "server: {name: example.com}\nlisteners: [{port: 1}]",
        ATRIUM__SERVER__NAME="other.org",
        ATRIUM__LISTENERS__0__PORT="8448",
        ATRIUM__REGISTRATION__SHARED_SECRET="12345",
        PATH="/bin",
    )
    assert config.server.name == "other.org"
    assert config.listeners[0].port == 8448
    assert config.registration.shared_secret is not None
    assert config.registration.shared_secret.get_secret_value() == "12345"
    found = mistakes("server: {name: a.b}", ATRIUM__LIMITS__PAGE="-1", ATRIUM__SREVER__X="1")
    assert set(found) == {"limits.page (from ATRIUM__LIMITS__PAGE)", "srever"}


def test_the_environment_makes_the_list_it_names_a_place_in() -> None:
    """As the file that `atrium init` writes says, in which the listeners are commented out."""
    config = read(
        "server: {name: example.com}\nregistration:",
        ATRIUM__LISTENERS__0__PORT="8448",
        ATRIUM__LISTENERS__0__RESOURCES="[client]",
        ATRIUM__LISTENERS__1__PORT="9000",
        ATRIUM__REGISTRATION__EMAIL_DOMAINS__0="example.com",
        ATRIUM__REGISTRATION__EMAIL_DOMAINS__1="example.org",
    )
    assert [listener.port for listener in config.listeners] == [8448, 9000]
    assert config.listeners[0].resources == {"client"}
    assert config.registration.email_domains == ("example.com", "example.org")


def test_a_variable_that_leads_nowhere_is_a_mistake() -> None:
    found = mistakes(
        "server: {name: a.b}\nlisteners: [{port: 1}]",
        ATRIUM__LISTENERS__2__PORT="5",
        ATRIUM__LISTENERS__FIRST__PORT="5",
        ATRIUM__LISTENERS__0__PORT__X="5",
        ATRIUM__SERVER__NAME__X="5",
        ATRIUM__REGISTRATION__EMAIL_DOMAINS__1="a.b",
    )
    assert set(found) == {
        "listeners.2.port (from ATRIUM__LISTENERS__2__PORT)",
        "listeners.first.port (from ATRIUM__LISTENERS__FIRST__PORT)",
        "listeners.0.port.x (from ATRIUM__LISTENERS__0__PORT__X)",
        "server.name.x (from ATRIUM__SERVER__NAME__X)",
        "registration.email_domains.1 (from ATRIUM__REGISTRATION__EMAIL_DOMAINS__1)",
    }


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("server: {name: a.b, federation_address: not a host}", "server.federation_address"),
        ("server: {name: a.b, federation_address: 'a.b:99999'}", "server.federation_address"),
        ("server: {name: a.b, admin_contact: somebody}", "server.admin_contact"),
        (
            "server: {name: a.b, old_signing_keys: {abc: {key: KEY, expired_ts: 1}}}",
            "server.old_signing_keys.abc",
        ),
        (
            "server: {name: a.b, old_signing_keys: {'ed25519:a': {key: junk, expired_ts: 1}}}",
            "server.old_signing_keys.ed25519:a.key",
        ),
        ("server: {name: a.b, policy_server_keys: {curve: abc}}", "server.policy_server_keys"),
        ("server: {name: a.b, policy_server_keys: {ed25519: junk}}", "server.policy_server_keys"),
        ("registration: {reserved_names: [fine, 'a(b']}", "registration.reserved_names.1"),
        ("registration: {reserved_names: ['(a+)+b']}", "registration.reserved_names.0"),
        ("registration: {reserved_names: ['x([a-z]+_|y)*']}", "registration.reserved_names.0"),
        ("registration: {reserved_names: ['(a|aa)+b']}", "registration.reserved_names.0"),
        ("registration: {reserved_names: ['(a?){30}a']}", "registration.reserved_names.0"),
        ("registration: {reserved_names: ['(a{0,30}){0,30}b']}", "registration.reserved_names.0"),
        ("registration: {reserved_names: ['.*-.*-.*x']}", "registration.reserved_names.0"),
        (
            "registration: {reserved_names: ['(a|a?)(a|a?)(a|a?)(a|a?)(a|a?)(a|a?)(a|a?)(a|a?)(a|a?)(a|a?)(a|a?)(a|a?)b']}",
            "registration.reserved_names.0",
        ),
        ("registration: {autojoin_rooms: [lobby]}", "registration.autojoin_rooms.0"),
        ("registration: {email_domains: ['@a.b']}", "registration.email_domains.0"),
        ("outbound: {proxy: 'proxy:3128'}", "outbound.proxy"),
        ("federation: {key_servers: [{server_name: a b}]}", "federation.key_servers.0.server_name"),
        (
            "federation: {key_servers: [{server_name: a.b, verify_keys: {'ed25519:a': x}}]}",
            "federation.key_servers.0.verify_keys.ed25519:a",
        ),
    ],
)
def test_values_of_a_wrong_form_are_named_before_anything_starts(text: str, path: str) -> None:
    named = text.replace("KEY", "A" * 43)
    if not named.startswith("server"):
        named += "\nserver: {name: a.b}"
    assert list(mistakes(named)) == [path]


def test_values_of_the_right_form_are_taken() -> None:
    read(
        f"""
        server:
          name: a.b
          federation_address: "[::1]:443"
          admin_contact: "@admin:a.b"
          old_signing_keys: {{"ed25519:a_1": {{key: {"A" * 43}, expired_ts: 1}}}}
        registration:
          reserved_names: ["a.*", "(irc|slack)_.*", "(ab{{1,3}})+"]
          autojoin_rooms: ["#lobby:a.b"]
          email_domains: [a.b, example.com]
        outbound: {{proxy: "http://user:password@proxy.a.b:3128"}}
        federation: {{key_servers: [{{server_name: "a.b:8448", verify_keys: {{"ed25519:a": {"A" * 43}}}}}]}}
        """
    )


def test_files_of_certificates_are_looked_into(tmp_path: Path) -> None:
    for name in ("one", "two"):
        self_signed(tmp_path, name)
    (tmp_path / "junk.pem").write_text("junk")
    shutil.copy(tmp_path / "one.key", tmp_path / "key.pem")
    listener = "server: {{name: a.b}}\nlisteners: [{{tls: {{certificate: {}, private_key: {}}}}}]"
    where = "listeners.0.tls"
    for certificate, key, path in (
        ("one.pem", "one.key", None),
        ("junk.pem", "one.key", f"{where}.certificate"),
        ("one.key", "one.key", f"{where}.certificate"),
        ("one.pem", "two.key", f"{where}.private_key"),
        ("one.pem", "junk.pem", f"{where}.private_key"),
    ):
        if path is None:
            read(listener.format(certificate, key), base=tmp_path)
            continue
        with pytest.raises(ConfigError) as caught:
            read(listener.format(certificate, key), base=tmp_path)
        assert [found for found, _ in caught.value.mistakes] == [path]
    with pytest.raises(ConfigError, match=r"extra_ca_files\.1: there is no certificate"):
        read("server: {name: a.b}\noutbound: {extra_ca_files: [one.pem, junk.pem]}", base=tmp_path)


def test_a_key_with_a_passphrase_is_named_rather_than_asked_for(tmp_path: Path) -> None:
    self_signed(tmp_path)
    key = serialization.load_pem_private_key((tmp_path / "localhost.key").read_bytes(), None)
    sealed = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "localhost.key").write_bytes(sealed)
    text = "server: {name: a.b}\nlisteners: [{tls: {certificate: localhost.pem, private_key: localhost.key}}]"
    with pytest.raises(ConfigError, match=r"private_key: .* has a passphrase"):
        read(text, base=tmp_path)


def test_all_that_registration_lacks_is_named_at_once() -> None:
    found = mistakes(
        "server: {name: a.b}\nregistration: {enabled: true, flows: [[dummy], [recaptcha], [terms], [email]]}"
    )
    assert set(found) == {
        "registration.flows",
        "registration.recaptcha",
        "registration.policies",
        "registration.flows.3",
    }


def test_durations_and_sizes_are_written_as_people_do() -> None:
    config = read(
        "server: {name: a.b, key_validity: 2d}\nmedia: {max_upload: 20M}\nlimits: {sync_timeout: 1500ms}"
    )
    assert config.server.key_validity == 2 * 86400
    assert config.media.max_upload == 20 << 20
    assert config.limits.sync_timeout == 1.5


def test_a_key_said_twice_and_broken_yaml_are_refused() -> None:
    assert "said twice" in mistakes("server: {name: a.b}\nserver: {name: c.d}")[""]
    assert "not YAML" in mistakes("server: {name")[""]
    assert "mapping" in mistakes("- 1")[""]


def test_registration_open_to_robots_must_be_meant() -> None:
    text = "server: {name: a.b}\nregistration: {enabled: true, flows: [[dummy]]}"
    assert "robots" in mistakes(text)["registration.flows"]
    assert read(text.replace("[[dummy]]", "[[dummy]], open_without_checks: true")).registration.enabled


def test_contradictions_between_sections_are_named_too() -> None:
    found = mistakes("""
        server: {name: a.b}
        registration: {enabled: true, flows: [[token], [email]]}
        listeners: [{port: 1, resources: [metrics]}, {port: 1, resources: [federation]}]
        """)
    assert set(found) == {"registration.flows.1", "listeners.1", "listeners"}


def test_clients_must_be_able_to_find_the_token_service() -> None:
    livekit = f"url: wss://l.example, key: k, secret: {'x' * 32}"
    section = "{name: a.b}\ncalls: {livekit: {"
    assert set(mistakes(f"server: {section}{livekit}}}}}")) == {"server.public_baseurl"}
    config = read(f"server: {section}{livekit}, service_url: https://c.example/x}}}}")
    assert config.calls.livekit is not None
    assert config.calls.livekit.api == "https://l.example"
    assert set(mistakes(f"server: {section}url: l.example, key: k, secret: short, service_url: x}}}}")) == {
        "calls.livekit.url",
        "calls.livekit.secret",
        "calls.livekit.service_url",
    }


@pytest.mark.parametrize(
    ("first", "second", "meet"),
    [
        ("port: 80", "port: 80", True),
        ("port: 80", "port: 81", False),
        ("port: 0", "port: 0", False),
        ("port: 80, address: 0.0.0.0", "port: 80, address: 127.0.0.1", True),
        ("port: 80, address: '::1'", "port: 80, address: '::'", True),
        ("port: 80, address: '::'", "port: 80, address: 0.0.0.0", False),
        ("port: 80, address: 10.0.0.1", "port: 80, address: 10.0.0.2", False),
        ("port: 80, address: localhost", "port: 80, address: 127.0.0.1", True),
        ("unix_socket: /run/a", "unix_socket: /run/a", True),
        ("unix_socket: /run/a", "unix_socket: /run/b", False),
        ("unix_socket: /run/a", "port: 8008", False),
    ],
)
def test_two_listeners_at_one_place_are_named(first: str, second: str, meet: bool) -> None:
    text = f"server: {{name: a.b}}\nlisteners: [{{{first}}}, {{{second}}}]"
    if meet:
        assert mistakes(text) == {"listeners.1": "listens at the same place as listeners.0"}
    else:
        read(text)


def test_secrets_stay_out_of_messages_and_representations() -> None:
    config = read(
        "server: {name: a.b}\nregistration: {shared_secret: s3cret}\ndatabase: {url: 'postgresql://u:s3cret@h/d'}"
    )
    assert "s3cret" not in repr(config)
    with pytest.raises(ConfigError) as caught:
        read("server: {name: a.b}\ndatabase: {url: 'mysql://u:s3cret@h/d'}")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql:/atrium", "neither postgresql://"),
        ("postgresql://h/d?sslmde=require", 'invalid URI query parameter: "sslmde"'),
        ("postgresql://u:s3cret%@h/d", "must be written as %25"),
        ("password=s3cret host", "neither postgresql://"),
        ("postgresql://a,b/d", "add target_session_attrs=read-write"),
        ("host=a,b dbname=d target_session_attrs=any", "add target_session_attrs=read-write"),
    ],
)
def test_a_connection_string_nobody_can_read_is_named_without_its_password(url: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(f"server: {{name: a.b}}\ndatabase: {{url: {url!r}}}")
    assert "database.url" in str(refused.value)
    assert said in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_something_else_than_a_list_or_mapping_is_said_in_words_of_yaml() -> None:
    found = mistakes("server: {name: a.b}\nlisteners: {port: 1}\nrooms: 3")
    assert found["listeners"] == "input should be a valid list"
    assert "mapping" in found["rooms"]


def test_a_missing_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "config.yaml")


def test_dev_is_open_cheap_and_on_this_machine_only(tmp_path: Path) -> None:
    config = dev_config(port=0, data=tmp_path)
    assert config.development
    assert config.server.name == "localhost"
    assert [listener.address for listener in config.listeners] == ["127.0.0.1"]
    assert config.registration.enabled
    assert config.registration.flows == (("dummy",),)
    assert config.registration.shared_secret is not None
    assert config.registration.shared_secret.get_secret_value() == "dev"
    assert not config.rate_limits.enabled
    assert config.database.url is None
    for address in ("0.0.0.0", "192.168.1.1", "::", "example.com"):
        with pytest.raises(ConfigError, match="this machine only"):
            dev_config(port=0, data=tmp_path, address=address)


def test_no_file_can_say_that_it_is_for_development() -> None:
    assert "development" in mistakes("server: {name: a.b}\ndevelopment: true")


def test_a_worker_receives_the_same_configuration(tmp_path: Path) -> None:
    config = dev_config(port=1, data=tmp_path).with_database("host=/x").with_processes(3)
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    assert copy.development
    assert (copy.database.url, copy.server.processes) == ("host=/x", 3)
