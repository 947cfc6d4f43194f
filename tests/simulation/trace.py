"""Events and commands as lines of a trace."""

from __future__ import annotations

from penstock.control import boundary


def brief(of: object) -> str:
    """An event or command in a line; without frames and ids, since they differ from run to run."""
    if isinstance(of, boundary.SendFrame):
        return f"SendFrame({of.connection_id}, {of.correlation_id})"
    if isinstance(of, boundary.SetTopic):
        return f"SetTopic({of.name}, {of.version}, {[tuple(p)[:2] for p in of.partitions]})"
    if isinstance(of, boundary.LanesHandedOver):
        return "LanesHandedOver " + "; ".join(
            f"{lane.topic}-{lane.partition} {lane.leader}/{lane.leader_epoch} id {lane.epoch} acked {lane.last_acked_sequence} "
            + " ".join(
                f"[{b.batch_id}: seq {b.base_sequence}+{b.record_count} try {b.attempts} {b.fate} {b.error_code}"
                f"{' expired' if b.expired else ''}]"
                for b in lane.batches
            )
            for lane in of.lanes
        )
    if isinstance(of, boundary.ResumeLane):
        decisions = " ".join(f"{d.batch_id}:{d.action}" for d in of.decisions)
        return f"ResumeLane({of.topic}-{of.partition} {decisions} renumber {of.renumber} in {of.delay_ms} ms)"
    return repr(of)
