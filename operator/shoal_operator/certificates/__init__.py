"""The operator's own certificate authority, made, kept in Secrets, and rotated without anybody's help.

How it rotates: a leaf is renewed at two thirds of its life. At two thirds of the authority's life a next one is made
and at once trusted besides the old (``ca.crt`` is a bundle); a week later, when every pod has read the bundle, the
next one signs, and the leaves are made anew; the old one stays in the bundle until it expires.
"""

from .certificates import Certificates, CertificatesUnavailable
from .plan import KeyPair
from .secrets import KubernetesSecrets, MemorySecrets

__all__ = ["Certificates", "CertificatesUnavailable", "KeyPair", "KubernetesSecrets", "MemorySecrets"]
