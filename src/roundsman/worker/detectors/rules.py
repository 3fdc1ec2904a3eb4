r"""What secrets look like, in the configurations of any device.

Each rule has words, one of which stands near whatever it finds: a text without them, and most
lines of every text, costs no more than the search for these. Its patterns capture the secret itself
as `secret`; they see at most a window of the text around the word, so that none of them can take
long. Rules of which the words are common in prose hold for lines that set something, not for
comments, descriptions and lines that begin with `no`.
"""

import re
from typing import Final, NamedTuple

WORDS: Final = (
    *(b"passw", b"passphrase", b"secret", b"psk", b"key", b"token", b"community", b"private-lines"),
    *(b"snmp-server host", b"auth sha", b"auth md5", b"bearer", b" enc ", b"slack", b"xox"),
    *(b".eyj", b"akia", b"aiza", b"ghp_", b"github_pat_", b"$", b"@", b"~"),
)
"""Lower case; a line without any of these holds no secret that the rules know. Few: each costs a
search of the whole text."""


class Rule(NamedTuple):
    """One kind of secret."""

    name: str
    """What it is called in reports."""
    words: tuple[bytes, ...]
    """Lower case; one of them must stand on the line too. Found quicker than the patterns are."""
    patterns: tuple[re.Pattern[bytes], ...]
    settings_only: bool = False
    """Whether comments, descriptions and lines that take a setting away are passed over."""
    shaped: bool = True
    """Whether what is found is known by its form. If not, it must not be one of the words that may
    stand in its place (see `plausible`)."""
    beyond_line: bool = False
    """Whether the lines after it belong to what the patterns see."""


def _read(*texts: str, flags: int = re.IGNORECASE) -> tuple[re.Pattern[bytes], ...]:
    return tuple(re.compile(text.encode(), re.MULTILINE | flags) for text in texts)


def _exactly(*texts: str) -> tuple[re.Pattern[bytes], ...]:
    return _read(*texts, flags=0)


# What may stand between a keyword and its secret: how it is written.
_HOW: Final = (
    r"(?:[ \t]+(?:\d{1,2}|0x\w+|level \d+|role \S+|hash(?:2|ed)?|sha-?\d*|md5|simple|ciphertext"
    r"|(?:irreversible-)?cipher|encrypted(?:-password)?|unencrypted|plain(?:-?text)?(?:-password)?"
    r"|clear(?:text)?|hex|hexadecimal|ascii(?:-text)?|text|string|is|secret-value|shared-key|key"
    r"|set-key|(?:auth|priv)-pass(?:word)?|localized-?key))*"
)
_VALUE: Final = r"""[ \t]+["']?(?P<secret>[^\s"';]{3,})"""
_LAST: Final = (
    r"""[ \t]*["']?(?P<secret>(?<=[ \t"'])[^\s"';]{3,})["']?;?"""
    r"(?:[ \t]+(?:encrypted|hash2?|level \d+|pbkdf2|##.*))*[ \t\r]*$"
)
_KEYWORDS: Final = (b"passw", b"passphrase", b"secret", b"psk", b"key")

RULES: Final = (
    Rule(
        "private_key",
        (b"private key-----", b"private key block-----", b"private-lines"),
        _exactly(
            r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\n|\\r)*"
            r"(?:[A-Za-z-]+: [^\n]*\s*){0,6}(?P<secret>[A-Za-z0-9+/=]{16,})",
            r"Private-Lines: \d+\s+(?P<secret>[A-Za-z0-9+/=]{16,})",
        ),
        beyond_line=True,
    ),
    Rule(
        "crypt_hash",
        (b"$",),
        _exactly(
            r"(?P<secret>\$(?:1|5|6|md5|apr1|sha1|sha256|sha512)\$(?:rounds=\d+\$|\d+\$)?"
            r"[./\w+=-]{0,64}\$[./\w+=]{16,})",
            r"(?P<secret>\$(?:8|9|14)\$[./\w+=]{4,}\$[./\w+=]{16,})",
            r"(?P<secret>\$2[abxy]\$\d\d\$[./\w]{53})",
            r"""(?P<secret>\$(?:argon2(?:id|i|d)|scrypt|pbkdf2(?:-sha\d+)?)\$[^\s"']{16,})""",
            r"(?P<secret>\$y\$[./\w]+\$[./\w]*\$[./\w]{20,})",
            r"(?P<secret>\$7\$[./\w]{10,}\$[./\w]{20,})",
        ),
    ),
    Rule(
        "juniper_secret",
        (b"$9$", b"$8$"),
        _exactly(r"""(?P<secret>\$9\$[\w./-]{4,}|\$8\$aes[^\s";]{16,})"""),
    ),
    Rule(
        "cisco_type_7",
        (b" 7 ",),
        _read(
            r'(?:key|pass\w*|secret|string|md5|auth\S*|psk)\S*[ \t]+7 "?'
            r'(?P<secret>(?:[0-4]\d|5[0-3])(?:[0-9a-f]{2}){2,})(?="?[ \t\r;]*(?:$|\s))'
        ),
    ),
    Rule(
        "cisco_type_6",
        (b" 6 ",),
        _read(r'(?:key|pass\w*|secret|string|psk)\S*[ \t]+6 "?(?P<secret>[A-Za-z\[\]^_`]\S{9,})'),
    ),
    Rule(
        "fortinet_encrypted",
        (b" enc ",),
        _exactly(r'^\s*set \S+ ENC "?(?P<secret>[A-Za-z0-9+/=]{8,})'),
    ),
    Rule(
        "huawei_cipher",
        (b"cipher ",),
        _read(
            r'\bcipher "?(?P<secret>(?:%\^%#|%\$%\$|@%@%|%@%#|\^%\^#|%#%#|\$[1c]a?\$)\S{6,})',
            r"\b(?:password|key|community|secret|read|write|hmac-\S+|md5)(?: \d+)? "
            r'(?:irreversible-)?cipher "?(?P<secret>\S{6,})',
        ),
        shaped=False,
    ),
    Rule(
        "paloalto_encrypted",
        (b"-aq==",),
        _exactly(r"(?P<secret>-AQ==[A-Za-z0-9+/=]{16,})"),
    ),
    Rule(
        "jwt",
        (b".eyj",),
        _exactly(r"(?P<secret>\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,})"),
    ),
    Rule(
        "aws_key",
        (b"akia",),
        _exactly(r"(?P<secret>\bAKIA[0-9A-Z]{16}\b)"),
    ),
    Rule(
        "google_key",
        (b"aiza",),
        _exactly(r"(?P<secret>\bAIza[\w-]{35})"),
    ),
    Rule(
        "azure_key",
        (b"accountkey=", b"accesskey=", b"8q~"),
        _read(
            r"AccountKey=(?P<secret>[A-Za-z0-9+/]{40,}={0,2})",
            r"SharedAccessKey=(?P<secret>[A-Za-z0-9+/]{20,}={0,2})",
            r"(?P<secret>\b[\w.-]{3}8Q~[\w.~-]{31,34})",
        ),
    ),
    Rule(
        "github_token",
        (b"ghp_", b"github_pat_"),
        _exactly(r"(?P<secret>\b(?:ghp_[A-Za-z0-9]{36,}|github_pat_\w{22,}))"),
    ),
    Rule(
        "slack_token",
        (b"xox", b"hooks.slack"),
        _exactly(
            r"(?P<secret>\bxox[abeoprs]-[\w-]{10,})",
            r"hooks\.slack\.com/services/(?P<secret>T\w+/B\w+/\w{8,})",
        ),
    ),
    Rule(
        "bearer_token",
        (b"bearer ",),
        _read(r"\bbearer (?P<secret>(?=[\w.~+/-]*\d)[\w.~+/-]{16,}=*)"),
    ),
    Rule(
        "url_password",
        (b"@",),
        _read(r"""\b[a-z][\w+.-]{1,15}://[^\s/:@"'<>]{1,64}:(?P<secret>[^\s/@"'<>]{1,128})@"""),
        shaped=False,
    ),
    Rule(
        "snmp_community",
        (b"community",),
        _read(
            r"\bsnmp\S*(?:[ \t]+\S+){0,6}?[ \t]+(?:\w+-)?community(?:-string|-name)?(?:[ \t]+"
            r'(?:read\w*|write|ro|rw|name|index "?\d+"?|string|create|add|map mode|\d))*'
            + _HOW
            + _VALUE,
            r'^\s*community "(?P<secret>[^"\n]+)"(?: hash2?)? (?:access-permissions|version)\b',
            r"^\s*r[ow]community6?[ \t]+(?P<secret>\S+)",
            r"\b(?:read|write|ro|rw|trap|snmp)[-_.]?community(?:[-_](?:string|name))?"
            r"""["']?(?:[>=]|[ \t]*[:=][ \t]*)["']?(?P<secret>[^\s"'<,;]+)""",
        ),
        settings_only=True,
        shaped=False,
    ),
    Rule(
        "snmp_community",
        (b"snmp community", b"{"),
        _read(
            r'\bcommunity "?(?P<secret>[^\s"{]+)"? \{\s*(?:authorization|clients?|view)\b',
            r"config system snmp community\s+edit \d+\s+(?:set (?!name)[^\n]*\s+){0,5}"
            r'set name "?(?P<secret>[^\s"]+)',
            r"/snmp community\s+(?:set|add) [^\n]*?\bname=(?P<secret>\S+)",
        ),
        settings_only=True,
        shaped=False,
        beyond_line=True,
    ),
    Rule(
        "snmp_community",
        (b"snmp-server host",),
        _read(
            r"snmp-server host \S+(?: (?:vrf|use-vrf) \S+)?(?: (?:informs?|traps?))?"
            r"(?: version (?:1|2c?))?(?: udp-port \d+)?(?: [078])? "
            r"(?P<secret>(?!version|traps?\b|informs?\b|vrf|use-vrf|udp-port|source|filter|port"
            r"|community|\d+\.\d+)\S{3,})"
        ),
        settings_only=True,
        shaped=False,
    ),
    Rule(
        "snmp_user",
        (b"auth sha", b"auth md5"),
        _read(
            r"\b(?:auth (?:md5|sha[-\d]*|hmac-\S+)|priv (?:aes[-\d]*|des\d*)(?: \d+)?)"
            + _HOW
            + _VALUE
        ),
        settings_only=True,
        shaped=False,
    ),
    Rule(
        "server_key",
        (b"tacacs", b"radius", b"ldap", b"server-private", b"client"),
        _read(
            r"\b(?:tacacs|radius|ldap|server-private|client)[^\n]*?[ \t]"
            r"(?:key|secret|shared-secret|shared-key|server-key|bind-password|password)"
            + _HOW
            + _VALUE
        ),
        settings_only=True,
        shaped=False,
    ),
    Rule(
        "pre_shared_key",
        (b"shared", b"psk", b"isakmp key"),
        _read(
            r"\b(?:pre-?shared-?(?:key|secret)|psk(?:-?secret|-key)?|isakmp key|shared-secret"
            r"|shared-key)(?: (?:local|remote|key))?(?: (?:address|hostname|ip) \S+(?: [\d.]+)?)?"
            + _HOW
            + _VALUE
        ),
        settings_only=True,
        shaped=False,
    ),
    Rule(
        "password",
        (*_KEYWORDS, b"token"),
        (
            *_read(
                # Of whom, and the password.
                r"^[ \t]*(?:set |add )?(?:enable|username|user|local-user|neighbor|peer|area|ppp"
                r"|isis|ip|line|create account|config(?:ure)? account|ntp|standby|vrrp|glbp)\b"
                r"[^\n]*?[ \t]"
                r"(?:password|passwd|secret|authentication-key(?: \d+)?|key-string"
                r"|message-digest-key \d+ (?:md5|hmac-\S+))" + _HOW + _VALUE,
            ),
            *_read(
                # Anywhere, where the value is no word.
                r"\b(?:password|passwd|secret|passphrase|psk|preshare|passkey"
                r"|(?:auth|authentication|secret|shared|hash|rad)[-_]?key)"
                + _HOW
                + r"""[ \t]+["']?(?P<secret>(?=[^\s"';]*[\d$+=@!%^&*#])[^\s"';]{4,})"""
            ),
            *_exactly(
                # Nothing but the keyword and its value: lower case, as commands are.
                r"^[ \t]*(?:set |- )?(?:\S+-)?(?:password|passwd|passphrase|secret|key-string"
                r"|(?:authentication|auth|md5|message-digest|encryption|privacy)-key)"
                + _HOW
                + _LAST,
                r"^[ \t]+(?:pac )?key" + _HOW + r"""[ \t]+["']?(?P<secret>[^\s"';{]*[A-Za-z]"""
                r"""[^\s"';{]*)["']?;?[ \t\r]*$""",
            ),
            *_read(
                # Name and value, as in files of settings, JSON and XML.
                r"""(?<![\w.-])[\w.-]*(?:password|passwd|passphrase|secret|psk|token"""
                r"""|(?:shared|private|api|auth|authentication|encryption|access|master|wpa2?)"""
                r"""[-_]?key)["']?(?:"""
                r"""(?:=|[ \t]*[:=][ \t]*|>)["'](?P<secret>[^"'\n<]{3,256})["']"""
                r"""|=(?P<bare>[^\s"'<>,;&)\]}=]{3,256})(?=[\s,;&)\]}]|$)"""
                r"""|>(?P<element>[^\s"'<>]{3,256})</"""
                r"""|[ \t]*[:=][ \t]+(?P<only>[^\s"'<>,;]{3,256})[,;]?[ \t\r]*$)"""
            ),
        ),
        settings_only=True,
        shaped=False,
    ),
    Rule(
        "random_text",
        (*_KEYWORDS, b"token"),
        _read(
            r"""(?:key|secret|passw\w*|passphrase|psk|token)[\w.-]{0,24}["']?[ \t:=>]+"""
            r"""(?:[a-z-]{1,16}[ \t]+)?["']?(?P<secret>[A-Za-z0-9+/_=-]{24,})""",
        ),
        settings_only=True,
        shaped=False,
    ),
)
"""In the order of their certainty: what one has found is not found again by a later one."""
