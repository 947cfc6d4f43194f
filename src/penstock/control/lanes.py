"""Lanes that were handed over: the hints in their reports, the decision about each, and those that wait for an identity."""

import logging
from random import Random

from penstock import errors
from penstock.config.settings import ProducerSettings
from penstock.control.backoff import Backoff
from penstock.control.boundary import Command as EngineCommand
from penstock.control.boundary import LaneReport, LanesHandedOver, SetIdentity, SetTopic, Trouble
from penstock.control.commands import Log
from penstock.control.delivery import Policy, decide
from penstock.control.identity import IdentityManager
from penstock.control.metadata import Metadata


class Lanes:
    """Applies `delivery.decide` to reports. Times are milliseconds on the engine's clock."""

    def __init__(
        self, settings: ProducerSettings, metadata: Metadata, identity: IdentityManager, *, random: Random
    ) -> None:
        """No lane waits."""
        self._policy = Policy(
            settings.enable_idempotence,
            settings.retries,
            Backoff(settings.retry_backoff_ms, settings.retry_backoff_max_ms),
        )
        self._metadata = metadata
        self._identity = identity
        self._random = random
        self._waiting_for_identity: list[LaneReport] = []
        self.fatal = Trouble()
        """The fatal error of a report, if there was one."""

    def take_hints(self, event: LanesHandedOver) -> tuple[bool, list[SetTopic]]:
        """New leaders that Produce answers named (KIP-951): whether brokers changed, and the new snapshots."""
        brokers_changed = self._metadata.add_endpoints(event.endpoints)
        hints: dict[tuple[str, bytes], dict[int, tuple[int, int]]] = {}
        for report in event.lanes:
            for batch in report.batches:
                if batch.current_leader >= 0 and batch.current_leader_epoch > report.leader_epoch:
                    hint = (batch.current_leader, batch.current_leader_epoch)
                    hints.setdefault((report.topic, report.topic_id), {})[report.partition] = hint
        snapshots = [self._metadata.apply_hints(name, topic_id, new) for (name, topic_id), new in hints.items()]
        return brokers_changed, [snapshot for snapshot in snapshots if snapshot is not None]

    def decide(self, report: LaneReport, now_ms: float) -> list[EngineCommand | Log]:
        """Decide about one lane; without a usable identity it waits for `identity_came`."""
        verdict = decide(
            report,
            self._policy,
            self._identity.current,
            self._identity.next_identity(),
            self._metadata.leader_epoch(report.topic, report.partition),
            self._random,
        )
        commands: list[EngineCommand | Log] = []
        if verdict.refresh_metadata:
            self._metadata.request_refresh()
        if verdict.resume is None:
            self._identity.renew(now_ms)
            self._waiting_for_identity.append(report)
        else:
            if verdict.identity is not None:
                self._identity.adopt(verdict.identity)
                commands.append(SetIdentity(*verdict.identity))
            commands.append(verdict.resume)
            commands += _log(report)
        self.fatal = self.fatal or verdict.fatal
        return commands

    def identity_came(self, now_ms: float) -> list[EngineCommand | Log]:
        """Decide about the lanes that have waited for it."""
        waiting, self._waiting_for_identity = self._waiting_for_identity, []
        return [command for report in waiting for command in self.decide(report, now_ms)]


def _log(report: LaneReport) -> list[Log]:
    """The first error of a lane's batches, if there is one."""
    failed = next((batch for batch in report.batches if batch.error_code), None)
    if failed is None:
        return []
    name = f"{report.topic}-{report.partition}"
    cause = ": ".join(part for part in (errors.error_name(failed.error_code), failed.error_message) if part)
    text = f"{name}: {cause} (broker {report.leader}, attempt {failed.attempts}, {len(report.batches)} batches)"
    return [Log(logging.WARNING, f"lane {report.topic} {failed.error_code}", text)]
