"""What the general detectors find, and what they leave alone; invented lines of many devices."""

import time

import pytest

from roundsman.worker.detectors.scan import find, mask, search

B64 = "Zk3x9QmT4vL8wYp2Hs6Rb1Nc7Jd5Ge0U"
R = "a1B2c3D4e5F6g7H8"
CRYPT = f"$6$Xq2kLm9a${R * 5}a1B2c3"

SECRETS = [
    # Whole forms
    ("private_key", f"-----BEGIN RSA PRIVATE KEY-----\n{B64}\n-----END RSA PRIVATE KEY-----"),
    (
        "private_key",
        f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: A,B\n\n{B64}",
    ),
    ("private_key", f'set private-key "-----BEGIN ENCRYPTED PRIVATE KEY-----\n{B64}\n'),
    ("private_key", f"-----BEGIN OPENSSH PRIVATE KEY-----\r\n{B64}\r\n"),
    ("private_key", f'{{"private_key": "-----BEGIN PRIVATE KEY-----\\n{B64}\\n"}}'),
    ("private_key", f"Private-Lines: 4\n{B64}"),
    ("crypt_hash", f"root:{CRYPT}:19000:0:99999:7:::"),
    ("crypt_hash", f"enable secret 5 $1$a1B2${R}c3D4e5"),
    ("crypt_hash", f"enable secret 8 $8$a1B2c3D4e5F6g7${R * 2}a1B2c3D4e5F"),
    ("crypt_hash", f"enable secret 9 $9$a1B2c3D4e5F6g7${R * 2}a1B2c3D4e5F"),
    ("crypt_hash", f"username a secret 9 $14$a1B2${R}.Z${R * 2}"),
    ("crypt_hash", f"hash $2b$12${R * 3}a1B2c"),
    ("crypt_hash", f"x $2y$10${R * 3}a1B2c"),
    ("crypt_hash", f"$argon2id$v=19$m=65536,t=3,p=4${R}${R * 2}"),
    ("crypt_hash", f"admin:$y$j9T$a1B2c3D4e5F6g7H8./${R * 2}a1B2c3D4e5F:"),
    ("crypt_hash", f"$7$CU..../{R}${R * 2}"),
    ("crypt_hash", f"enable password $sha512$5000${R}==${R}== pbkdf2"),
    ("juniper_secret", 'secret "$9$Hqmfn6AIEyO1W87Vb2"; ## SECRET-DATA'),
    ("juniper_secret", 'pre-shared-key ascii-text "$9$Zk3x9QmT4vL"; ## SECRET-DATA'),
    (
        "juniper_secret",
        'authentication-key "$8$aes256-gcm$hmac-sha2-256$100$y2Zk3x9QmT4vL8w"',
    ),
    ("cisco_type_7", "username ops password 7 0822455D0A16544541"),
    ("cisco_type_7", " ip ospf message-digest-key 1 md5 7 070C285F4D06"),
    ("cisco_type_7", "tacacs-server host 192.0.2.1 key 7 13061E010803557878"),
    ("cisco_type_7", "  key-string 7 045802150C2E"),
    ("cisco_type_6", " pre-shared-key 6 RHZE[ACFUI\\bcbTdELISAAB"),
    ("fortinet_encrypted", "        set psksecret ENC QmFzZTY0U2VjcmV0VmFsdWU="),
    ("fortinet_encrypted", "        set passwd ENC SH2Zk3x9QmT4vL8wYp2Hs6Rb1Nc7Jd5Ge0U="),
    (
        "huawei_cipher",
        " local-user ops password irreversible-cipher $1c$Zk3x9QmT4$vL8wYp2Hs6Rb1Nc7$",
    ),
    ("huawei_cipher", "snmp-agent community read cipher %^%#Kx!{2mT4vL8w%^%# mib-view all"),
    ("huawei_cipher", " tunnel password cipher A1B2C3D4E5F60718"),
    ("paloalto_encrypted", "<key>-AQ==h6Zk3x9QmT4vL8wYp2Hs6Rb1Nc7Jd5Ge0U=Zk3x9QmT4vL8</key>"),
    # Tokens
    ("jwt", "token: eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.Zk3x9QmT4vL8wYp2Hs6Rb1Nc7Jd5"),
    ("aws_key", "aws_access_key_id = AKIAZK3X9QMT4VL8WYP2"),
    ("password", "aws_secret_access_key = Zk3x9QmT4vL8wYp2Hs6Rb1Nc7Jd5Ge0UZk3x9QmT"),
    ("google_key", "maps AIzaSyZk3x9QmT4vL8wYp2Hs6Rb1Nc7Jd5Ge0Ua"),
    ("azure_key", f"AccountName=a;AccountKey={B64}{B64[:16]}==;EndpointSuffix=core"),
    ("azure_key", "client Zk38Q~QmT4vL8wYp2Hs6Rb1Nc7Jd5Ge0UZk3x"),
    ("github_token", f"remote https://x ghp_{B64}Zk3x"),
    (
        "slack_token",
        "webhook https://hooks.slack.com/services/T0AB12CD3/B0EF45GH6/Zk3x9QmT4vL8wYp2",
    ),
    ("slack_token", "xoxb-1234567890-abcdefGHIJ"),
    ("bearer_token", "header Authorization: Bearer Zk3x9QmT4vL8wYp2Hs6R"),
    ("url_password", "archive path ftp://backup:Tr0ub4dor@192.0.2.9/configs"),
    ("url_password", "url scp://u:p%40ss@host/path"),
    # Communities
    ("snmp_community", "snmp-server community s3cr3tRO RO 99"),
    ("snmp_community", "snmp-server community public RO"),
    ("snmp_community", "snmp-server host 192.0.2.1 version 2c trapping"),
    ("snmp_community", "snmp-server host 192.0.2.1 informs plainone"),
    ("snmp_community", "set snmp community lab authorization read-only"),
    ("snmp_community", "    community lab {\n        authorization read-only;"),
    ("snmp_community", 'config system snmp community\n    edit 1\n        set name "lab"'),
    ("snmp_community", "/snmp community\nset [ find default=yes ] addresses=::/0 name=lab"),
    ("snmp_community", "set service snmp community lab network 192.0.2.0/24"),
    ("snmp_community", "set deviceconfig system snmp-setting snmp-community-string lab1"),
    ("snmp_community", 'community "kj3hg4" hash2 access-permissions r version v2c'),
    ("snmp_community", "rocommunity lab 192.0.2.0/24"),
    ("snmp_user", "snmp-server user nms group v3 auth sha Authing1 priv aes 128 Privving1"),
    # Keys and passwords in the clear
    ("server_key", "radius-server host 192.0.2.5 auth-port 1812 acct-port 1813 key Swordfish"),
    ("server_key", "tacacs-server key 0 Swordfish"),
    ("server_key", "set system login radius-server 192.0.2.5 secret clearly"),
    ("server_key", "aaa server tacacs x client 192.0.2.1 server-key Swordfish"),
    ("pre_shared_key", "crypto isakmp key Branching address 192.0.2.6"),
    ("pre_shared_key", " pre-shared-key local Branching"),
    ("pre_shared_key", " wpa-psk ascii 0 Branching"),
    (
        "pre_shared_key",
        "set vpn ipsec site-to-site peer a authentication pre-shared-secret 'Branch'",
    ),
    ("password", "enable password cisco"),
    ("password", "enable secret level 15 0 letmein"),
    ("password", "username bob privilege 15 password 0 hunter"),
    ("password", " password cisco"),
    ("password", " neighbor 192.0.2.1 password bgppeer"),
    ("password", "ntp authentication-key 1 md5 timely"),
    ("password", "standby 1 authentication md5 key-string groupie"),
    ("password", "  key-string chaining"),
    ("password", " key clearword"),
    ("password", "add name=ops password=hunter group=full"),
    ("password", 'set [ find ] wpa2-pre-shared-key="wire less"'),
    ("password", '"password": "hunter",'),
    ("password", "<password>hunter</password>"),
    ("password", "api_key = abcdef"),
    ("password", "db_password: hunter"),
    ("password", 'config user local passwd "hunter2"'),
    ("random_text", f"license-key data {B64}"),
]

NO_SECRETS = [
    # What filters and devices leave
    "snmp-server community <secret hidden> RO 99",
    "enable secret 9 <secret hidden>",
    "username ops password 7 <secret hidden>",
    "radius-server host 192.0.2.5 key <removed>",
    'secret "$9$<secret hidden>"; ## SECRET-DATA',
    "snmp-server community ***** ",
    "tacacs-server key ********",
    "password: ********",
    '"password": "<secret hidden>"',
    "password = ${PASSWORD}",
    "password={{ vault }}",
    "<password></password>",
    "ftp://backup:<secret hidden>@192.0.2.9/configs",
    "-----BEGIN RSA PRIVATE KEY-----\n<secret hidden>\n-----END RSA PRIVATE KEY-----",
    "tacacs-server host 192.0.2.1 key ciphertext <secret hidden>",
    "snmp community map mode <secret hidden> user snmpro on",
    # Settings about secrets
    "service password-encryption",
    "no service password-encryption",
    "password encryption aes",
    "password-policy min-length 12",
    "security passwords min-length 8",
    "password strength-check",
    "password minimum-length 8",
    "username bob nopassword",
    "username bob password never",
    "no enable password",
    "no snmp-server community public",
    "no password",
    "enable password",
    "aaa authentication login default group tacacs+ local enable",
    "aaa authentication enable default group tacacs+ enable",
    "ip ssh password-auth",
    "login password-retry-delay 3",
    "set password-expiry 90",
    "authentication pre-share",
    " authentication-method pre-shared-key",
    " authentication local pre-share",
    "set security-policy password-complexity enable",
    "snmp-agent community complexity-check disable",
    "security wpa akm psk",
    "secret=no",
    "password=none",
    '"token": null,',
    "private_key = /etc/ssl/private/host.key",
    "PasswordAuthentication yes",
    "#PasswordAuthentication no",
    "max-password-age 90",
    "token-ring 0",
    "passphrase required",
    # Communities that are not SNMP's
    "set community 65000:100",
    " neighbor 192.0.2.1 send-community extended",
    "ip community-list standard CUST permit 65000:1",
    "set policy-options community CUST members 65000:1",
    "    community CUST members [ 65000:1 65000:2 ];",
    "route-map x permit 10\n match community CUST",
    "snmp-server enable traps snmp authentication linkdown",
    "snmp-server host 192.0.2.1 version 3 priv nms",
    "snmp-server group nms v3 priv",
    # Keys that are public, or none
    "crypto key generate rsa modulus 2048",
    "key chain OSPF",
    " key 1",
    "key config-key password-encrypt",
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDZk3x9QmT4vL8wYp2Hs6Rb1Nc7Jd5Ge0U ops@nms",
    "ip ssh pubkey-chain\n  username bob\n   key-hash ssh-rsa A1B2C3D4E5F6071829304A5B6C7D8E9F",
    'set system login user a authentication ssh-ed25519 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"',
    "public-key AAAAB3NzaC1yc2EAAAADAQABAAABAQDZk3x9QmT4vL8wYp2Hs6",
    f"-----BEGIN CERTIFICATE-----\n{B64}\n-----END CERTIFICATE-----",
    f"-----BEGIN PUBLIC KEY-----\n{B64}\n-----END PUBLIC KEY-----",
    f"crypto pki certificate chain x\n certificate self-signed 01\n  {B64}",
    "The key fingerprint is SHA256:Zk3x9QmT4vL8wYp2Hs6Rb1Nc7Jd5Ge0Uab",
    # Prose
    " description reset the password weekly",
    " description key to the secret garden",
    "! password changes are logged",
    "banner motd ^C Your password will expire ^C",
    "Unauthorized access is prohibited. Your password will be changed.",
    "Enter the password when asked, and keep the secret to yourself",
    "remark password reset portal",
    "contact ops@example.net",
    "http://[2001:db8::1]:8080/path@x",
    "http://example.net:8080/a@b",
    # Dollars that hash nothing
    "rule 10 permit ^65000$",
    "if [ $1 = $2 ]; then echo $6$; fi",
    "sed s/\\(.*\\)/$1$2/",
    # Ciphers
    "ssh cipher aes256_ctr,aes128_ctr",
    "ip ssh server algorithm encryption aes256-ctr",
    "set cipher aes256-gcm",
    "ssl cipher tlsv1.2 high",
    "vlan 7 name key",
]


def test_table_of_secrets() -> None:
    missed = [
        (kind, text, find(text.encode()))
        for kind, text in SECRETS
        if kind not in {one.rule for one in find(f"interface x\n{text}\nend\n".encode())}
    ]
    assert not missed


def test_table_of_what_is_none() -> None:
    found = [
        (text, one) for text in NO_SECRETS for one in find(f"interface x\n{text}\nend\n".encode())
    ]
    assert not found


@pytest.mark.parametrize("line", ["SNMP-SERVER COMMUNITY lab", "Snmp-Server Community lab"])
def test_keywords_are_known_in_any_case(line: str) -> None:
    assert find(line.encode())


def test_masked_text_holds_nothing_that_is_found() -> None:
    text = "".join(f"{line}\n" for _, line in SECRETS).encode()
    masked = mask(text)
    assert find(masked) == []
    assert mask(masked) == masked


def test_a_private_key_is_masked_to_its_end() -> None:
    body = "".join(f"{B64}{i:02}\n" for i in range(40))
    text = f"a\n-----BEGIN EC PRIVATE KEY-----\n{body}-----END EC PRIVATE KEY-----\nb\n"
    assert mask(text.encode()) == (
        b"a\n-----BEGIN EC PRIVATE KEY-----\n<secret hidden>\n-----END EC PRIVATE KEY-----\nb\n"
    )


def test_search_tells_kind_line_and_count_and_never_the_text() -> None:
    text = b"a\nenable password cisco\nb\n\nenable password x12\nsnmp-server community s3cr3t RO\n"
    found = {one.detector: (one.line, one.count) for one in search([text])}
    assert found == {"password": (2, 2), "snmp_community": (6, 1)}


@pytest.mark.parametrize("size", [1, 1000, 100_000])
def test_findings_do_not_depend_on_how_the_text_is_cut(size: int) -> None:
    """Also where a block ends in the midst of a private key's first lines."""
    filler = b"interface GigabitEthernet0/0\n" * 4000
    text = filler[: (1 << 17) - 1060] + b"\n-----BEGIN PRIVATE KEY-----\n" + B64.encode() + b"\n"
    text += filler + b"enable password cisco\n" + filler
    pieces = [text[i : i + size] for i in range(0, len(text), size)] if size > 1 else [text]
    found = {one.detector: (one.line, one.count) for one in search(pieces)}
    assert found == {
        "private_key": (text[: text.index(b"-----BEGIN")].count(b"\n") + 2, 1),
        "password": (text[: text.index(b"enable")].count(b"\n") + 1, 1),
    }


def test_a_search_that_takes_too_long_says_how_far_it_came() -> None:
    ticks = iter(range(100))
    text = [b"x\n" * (1 << 16)] * 8
    [found] = search(text, seconds=3, monotonic=lambda: next(ticks))
    assert found.detector == "unfinished"
    assert found.line > 1


def test_hostile_texts_take_no_time() -> None:
    """Each is what makes careless patterns take minutes."""
    hostile = [
        b"password " * 20_000,
        b"snmp community " * 10_000,
        b"tacacs key 7 " * 10_000,
        b"key" + b" 7" * 60_000,
        b"$1$" * 50_000,
        b"secret" + b"\t" * 150_000,
        (b"-----BEGIN PRIVATE KEY-----" + b"A: b\n" * 8) * 3000,
        b"https://a:" * 15_000 + b"@",
        b"key=" + b"A1b" * 50_000,
        b"config system snmp community\n edit 1\n" + b" set a b\n" * 15_000,
    ]
    start = time.process_time()
    for text in hostile:
        find(text)
    assert time.process_time() - start < 10


def test_what_is_no_text_is_not_searched() -> None:
    """An image of 500 MB took the time limit, and found chance words."""
    secret = b"password 7 08351F1B1D431516475E1B54382F\n"
    assert search([secret])
    assert search([b"\x7fELF\0", secret]) == ()
    assert search([b"x" * 8000 + b"\0\n", secret])
