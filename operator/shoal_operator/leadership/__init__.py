"""Who leads, and in which epoch: a Lease in the operator's own namespace."""

from .epoch import LEASE_NAME, EpochNotClaimed, Leases, claim_epoch, claim_epoch_in
from .fence import Fenced
from .kubernetes_leases import KubernetesLeases

__all__ = ["LEASE_NAME", "EpochNotClaimed", "Fenced", "KubernetesLeases", "Leases", "claim_epoch", "claim_epoch_in"]
