"""What an agent is told, by the state alone. Pure: the agents API answers with it, and so does the simulation."""

from shoal_api.messages import PROTOCOL_VERSION, SyncResponse

from shoal_operator.state.copies import freshness
from shoal_operator.state.demand import use
from shoal_operator.state.pods import health
from shoal_operator.state.world.desired import DesiredChange
from shoal_operator.state.world.entities import World
from shoal_operator.state.world.report import AgentReport


def answer(world: World, report: AgentReport, acknowledged: int) -> SyncResponse:
    """The answer as of now to a report that was taken in; ``acknowledged``: the version that the next may start from,
    as it was then."""
    change = _change(world, report)
    return SyncResponse(
        protocol=PROTOCOL_VERSION,
        epoch=world.epoch,
        observed_acknowledged=acknowledged,
        desired_version=change.version if change else None,
        desired_base=change.base if change else None,
        desired=list(change.intents) if change else [],
        desired_gone=list(change.gone) if change else [],
        use_seconds=use.report_seconds(world, report.pod_uid),
        use_now=freshness.wanted(world, report.pod_uid),
        drained=report.draining and not world.recovering and health.drained(world, report.pod_uid),
    )


def keep(response: SyncResponse) -> SyncResponse:
    """The same for an agent that has asked again meanwhile: the desired list goes with that answer."""
    return response.model_copy(
        update={"desired_version": None, "desired_base": None, "desired": [], "desired_gone": []}
    )


def _change(world: World, report: AgentReport) -> DesiredChange | None:
    if report.epoch > world.epoch:
        return None  # it has obeyed a later operator, and refuses this one until a higher epoch is claimed
    desired = health.desired(world, report.pod_uid)
    return desired.since(report.desired_version) if desired is not None else None
