"""The bytes of one pod's model memory: what may be in it, what is promised, what is on its way out. Counted only here.

A slot's account holds a size for each content that the server may have in memory under the slot's name: what is wanted,
what it serves, what it may still be loading. Contents are added when they are wanted, and taken out by an agent's word
alone; what leaves keeps its charge until it is confirmed gone. A slot that waits for memory is promised some of what
is free or going, and charged nothing. ``committed`` therefore never falls below what the server really holds.

What minCopies keeps, and what does not go although it should, is ``kept``: however long a request waits, it can have no
more than the rest (``obtainable``).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

STRAY = ""
"""Stands for the contents of a slot that nobody placed."""


class Claim(StrEnum):
    """What an account's bytes are."""

    PROMISED = "Promised"  # not committed yet: others have to go first
    COMMITTED = "Committed"  # loaded, or free to be loaded
    OUTGOING = "Outgoing"  # committed until the agent confirms that it is gone, which is expected soon
    OVERDUE = "Overdue"  # the same, and nobody counts on it any more


@dataclass(slots=True)
class Account:
    """One slot. ``sizes``: bytes by copy id. ``charged``: their sum, 0 while only promised. ``kept``: it does not make
    way for others; ``kept_bytes``: what counts as that. Written by its Ledger."""

    sizes: dict[str, int]
    claim: Claim
    charged: int = 0
    kept: bool = False
    kept_bytes: int = 0

    def size(self, content: str) -> int:
        """Bytes that this content is counted with; 0: it is not in the account."""
        return self.sizes.get(content, 0)


@dataclass(slots=True)
class Ledger:
    """One pod's accounts by slot. Sums in bytes: ``committed`` (with ``outgoing`` in it), ``promised``, ``kept``."""

    capacity: int
    committed: int = 0
    promised: int = 0
    outgoing: int = 0
    kept: int = 0
    accounts: dict[str, Account] = field(default_factory=dict)
    owed: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By slot: a content, and bytes that it takes and is not charged: others are charged with too much for now."""

    @property
    def free(self) -> int:
        """Not committed; part of it may be promised."""
        return self.capacity - self.committed

    @property
    def room(self) -> int:
        """What a copy could take now, promises kept."""
        return self.free - max(0, self.promised - self.outgoing)

    @property
    def unclaimed(self) -> int:
        """Outgoing bytes that are promised to nobody: a copy can have them, a little later."""
        return max(0, self.outgoing - self.promised)

    @property
    def overdrawn(self) -> bool:
        """More is promised than is free or going."""
        return self.promised > self.free + self.outgoing

    @property
    def obtainable(self) -> int:
        """What a request could have, once all that may make way has made way."""
        return self.capacity - self.kept

    def keep(self, slot: str, kept: bool) -> bool:
        """Whether the slot stays whatever is asked for; True: that is another thing than before."""
        account = self.accounts[slot]
        if account.kept is kept:
            return False
        account.kept = kept
        self._recount(account)
        return True

    def set_capacity(self, capacity: int) -> None:
        """The pod offers another amount now."""
        self.capacity = capacity

    def open(self, slot: str, content: str, size: int) -> Account:
        """Take a slot for a content: committed where there is room for it, else promised."""
        if slot in self.accounts:
            raise ValueError(f"slot {slot!r} has an account already")
        claim = Claim.COMMITTED if size <= self.room else Claim.PROMISED
        account = self.accounts[slot] = Account({content: size}, claim)
        if claim is Claim.PROMISED:
            self.promised += size
        else:
            self._charge(account)
        return account

    def adopt(self, slot: str, sizes: dict[str, int]) -> Account:
        """Commit what a server was found to hold, or to be loading, whatever room there is."""
        if slot in self.accounts:
            raise ValueError(f"slot {slot!r} has an account already")
        account = self.accounts[slot] = Account(dict(sizes), Claim.COMMITTED)
        self._charge(account)
        return account

    def adopt_tight(self, slot: str, content: str, size: int) -> Account:
        """The same for one content that answers, which others leave too little room; ``pay`` charges the rest."""
        charged = max(0, min(size, self.free))
        if charged < size:
            self.owed[slot] = content, size - charged
        return self.adopt(slot, {content: charged})

    def pay(self) -> list[str]:
        """Charge what is owed, as far as there is room by now; the slots that were charged with more."""
        paid = []
        for slot, (content, owed) in list(self.owed.items()):
            if self.free <= 0:
                break
            account, part = self.accounts[slot], min(owed, self.free)
            account.sizes[content] = account.size(content) + part
            self._charge(account)
            if account.claim is Claim.OUTGOING:
                self.outgoing += part
            del self.owed[slot]
            if part < owed:
                self.owed[slot] = content, owed - part
            paid.append(slot)
        return paid

    def adopt_stray(self, slot: str, size: int | None) -> Account:
        """Commit what nobody wants, until it is confirmed gone. ``size`` None: not known, so all that is left.

        Never beyond the capacity: a full pod takes nothing anyway.
        """
        left = max(0, self.free)
        account = self.adopt(slot, {STRAY: left if size is None else min(size, left)})
        self.leave(slot)
        return account

    def aim(self, slot: str, content: str, size: int) -> None:
        """The slot is to hold this content; what it may hold besides stays charged until the agent says otherwise."""
        account = self.accounts[slot]
        match account.claim:
            case Claim.PROMISED:
                self.promised += size - sum(account.sizes.values())
                account.sizes = {content: size}
                self._recount(account)
            case Claim.COMMITTED:
                if slot in self.owed and self.owed[slot][0] == content:
                    del self.owed[slot]
                account.sizes[content] = size
                self._charge(account)
            case Claim.OUTGOING | Claim.OVERDUE:
                pass

    def rename(self, slot: str, content: str, name: str) -> None:
        """What was counted as one content is known by another name."""
        account = self.accounts[slot]
        if content not in account.sizes:
            return
        account.sizes[name] = max(account.sizes.pop(content), account.size(name))
        if slot in self.owed and self.owed[slot][0] == content:
            self.owed[slot] = name, self.owed[slot][1]
        if account.claim is Claim.COMMITTED:
            self._charge(account)

    def growth(self, slot: str, content: str, size: int) -> int:
        """Bytes that ``aim`` would take beyond what the slot has; below 0: it would give some back."""
        account = self.accounts[slot]
        sizes = {content: size} if account.claim is Claim.PROMISED else {**account.sizes, content: size}
        return sum(sizes.values()) - sum(account.sizes.values())

    def observe(self, slot: str, contents: Iterable[str], held: int | None) -> None:
        """An agent's word: its server holds, or may be loading, these contents of the slot, and no others.

        ``held``: bytes of all of them, by what the agent was told; it tells the size of one that is not known here.
        """
        account = self.accounts[slot]
        if account.claim is not Claim.COMMITTED:
            return
        kept = {content: account.sizes[content] for content in contents if content in account.sizes}
        for content in contents:
            if content not in kept:
                known = max(account.sizes.values(), default=0)
                kept[content] = known if held is None else max(0, held - sum(kept.values()))
        account.sizes = kept
        if slot in self.owed and self.owed[slot][0] not in kept:
            del self.owed[slot]
        self._charge(account)

    def grant(self, slot: str) -> bool:
        """Commit what was promised, if it is free by now; False when it is not."""
        account = self.accounts[slot]
        size = sum(account.sizes.values())
        if account.claim is not Claim.PROMISED or size > self.free:
            return False
        self.promised -= size
        account.claim = Claim.COMMITTED
        self._charge(account)
        return True

    def leave(self, slot: str) -> None:
        """What the slot holds is on its way out: charged as it is, until ``close``. A promise ends at once."""
        account = self.accounts[slot]
        if account.claim is Claim.PROMISED:
            self.promised -= sum(account.sizes.values())
        elif account.claim is Claim.COMMITTED:
            self.outgoing += account.charged
        account.claim = Claim.OUTGOING
        self._recount(account)

    def overdue(self, slot: str) -> None:
        """What was to be gone by now is still there: nothing more is promised of it."""
        account = self.accounts[slot]
        if account.claim is Claim.OUTGOING:
            self.outgoing -= account.charged
            account.claim = Claim.OVERDUE
            self._recount(account)

    def close(self, slot: str) -> None:
        """Nothing of the slot is left."""
        account = self.accounts.pop(slot)
        self.owed.pop(slot, None)
        if account.claim is Claim.PROMISED:
            self.promised -= sum(account.sizes.values())
        elif account.claim is Claim.OUTGOING:
            self.outgoing -= account.charged
        self.committed -= account.charged
        self.kept -= account.kept_bytes
        account.charged = account.kept_bytes = 0

    def _charge(self, account: Account) -> None:
        due = sum(account.sizes.values())
        self.committed += due - account.charged
        account.charged = due
        self._recount(account)

    def _recount(self, account: Account) -> None:
        match account.claim:
            case Claim.OVERDUE:
                due = account.charged
            case Claim.OUTGOING:
                due = 0
            case _:
                due = sum(account.sizes.values()) if account.kept else 0
        self.kept += due - account.kept_bytes
        account.kept_bytes = due
