"""Takes secrets out of what is said about storage: every message goes through here before anybody can read it. Pure.

What libraries and servers say holds whatever was asked with: endpoints with a password in them, presigned queries,
headers, tokens. They are known by where they stand, not by their value; rather too much goes than too little, and what
remains still says which host and which object.
"""

import re
from typing import Final

HIDDEN: Final = "…"

# No repetition below can match the same text in two ways, so that a long text takes no long time.
_NAMED = (
    r"[\w.\-]{0,64}?(?:secret|token|passw(?:or)?d|signature|credential|authorization|api[-_]?key|access[-_]?key|"
    r"string-?to-?sign|canonical-?request)[\w\-]{0,64}"
)
_HARMLESS = r"""(?!["']?(?:true|false|yes|no|on|off|[01])["']?(?:[^\w…]|$))"""
_RULES: Final = (
    # -----BEGIN PRIVATE KEY-----
    (re.compile(r"(-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----)[^-]*(?:-----END [A-Z ]{0,32}-----)?"), rf"\1{HIDDEN}"),
    # scheme://user:password@host, whatever the password is made of; what follows a colon may be a port instead
    (re.compile(r"""(://)[^\s/?#@:"'<>]*:(?!\d{1,5}(?:[/?#"'\s]|$))[^\s"'<>]*@"""), rf"\1{HIDDEN}@"),
    (re.compile(r"""(://)[^\s/?#"'<>]*@"""), rf"\1{HIDDEN}@"),
    # ?X-Amz-Signature=...&..., and every other query
    (re.compile(r"""\?(?=[^\s=?"'<>]{1,256}=)[^\s"'<>]*"""), f"?{HIDDEN}"),
    # Authorization: to the end of its line
    (re.compile(r"""(?i)(authorization["']?\s{0,8}[:=]\s{0,8}["']?)[^"'\r\n<>]+"""), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic)\s{1,8}(?=[^\s\d=]{0,512}[\d=])[\w+/=.~\-]{8,}"), rf"\1 {HIDDEN}"),
    # <SessionToken>...</SessionToken>
    (re.compile(rf"(?i)(<{_NAMED}>)[^<]*"), rf"\1{HIDDEN}"),
    # name=value, "name": "value"
    (re.compile(rf"""(?i)(\b{_NAMED}["']?\s{{0,8}}[:=]\s{{0,8}}){_HARMLESS}"[^"]*"?"""), rf'\1"{HIDDEN}"'),
    (re.compile(rf"""(?i)(\b{_NAMED}["']?\s{{0,8}}[:=]\s{{0,8}}){_HARMLESS}'[^']*'?"""), rf"\1'{HIDDEN}'"),
    (
        re.compile(rf"""(?i)(\b{_NAMED}["']?\s{{0,8}}[:=]\s{{0,8}}){_HARMLESS}[^\s"'<>,;&)}}\]]+"""),
        rf"\1{HIDDEN}",
    ),
    # AWS's session tokens and JSON web tokens, wherever they stand
    (re.compile(r"\b(?:FwoG|FQoG|IQoJ|AQoD)[A-Za-z0-9+/=]{40,}"), HIDDEN),
    (re.compile(r"\beyJ[\w\-]{8,}\.[\w\-]{8,}(?:\.[\w\-]*)?"), HIDDEN),
)


def redact(text: str) -> str:
    """The text without passwords, signatures, keys and tokens. Doing it twice changes nothing more."""
    for pattern, instead in _RULES:
        text = pattern.sub(instead, text)
    return text
