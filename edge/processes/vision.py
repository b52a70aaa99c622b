"""The vision process: camera → pipeline → outbox. It has no network."""

from __future__ import annotations

import logging
import threading
from typing import Any

import cv2

from edge.cameras.camera import FINITE
from edge.clock import now_s
from edge.config import Config, DataFolder
from edge.errors import ConfigError, EdgeError, ModelError, StoreError, StoreKeyError
from edge.events.backlog import Backlog, new_boot
from edge.events.messages import VisionState
from edge.events.moments import moment
from edge.events.presence import PresenceBoard
from edge.health import Notifier
from edge.models.slots import Slots
from edge.processes import conversion, instance, liveness_stage
from edge.processes.assembly import build_pipeline, initial_rates
from edge.processes.control_server import ControlServer
from edge.processes.feed import Feed
from edge.processes.gallery import LiveGallery
from edge.processes.owner.owner_requests import OwnerRequests, Then
from edge.processes.owner.reset import finish_forgetting
from edge.processes.power import PowerManager, state_fields
from edge.processes.sight import SightServer, described
from edge.processes.silences import SilenceLog, counted
from edge.processes.visit_memory import VisitMemory
from edge.provision.device.control_socket import ControlReply, ControlRequest
from edge.provision.protocol.replies import Done
from edge.records import Decision, Frame
from edge.vocabulary import Reason

_log = logging.getLogger(__name__)

_NOBODY = "nobody is recognised until this is mended"
_PERIOD_S = 1.0  # between two checks of settings, store and watchdog


def run(
    config: Config,
    stop: threading.Event,
    hangup: threading.Event,
    notifier: Notifier,
    fault: ConfigError | None = None,
) -> int | None:
    """Recognise until a stop is requested or a finite source has ended; return the exit code.

    The exit code is 1 if parts of a finite source could not be read. None: the settings or the model have changed or
    `hangup` is set, so the caller starts it again. Raises EdgeError if it cannot begin.

    It starts even with a store that cannot be opened, or with `fault`, the reason why the owner's settings are not in
    `config`. It then reports this in its state, recognises nobody, and serves the owner at the cable. With a recording
    as its source it raises instead. Raises SecondInstanceError where another vision process uses this folder.
    """
    if fault is not None and config.camera.source in FINITE:
        raise fault
    with instance.sole(config, "vision") as named:
        return _run(named, stop, hangup, notifier, fault)


def _run(
    config: Config, stop: threading.Event, hangup: threading.Event, notifier: Notifier, fault: ConfigError | None
) -> int | None:
    finish_forgetting(config)
    vision = _on_trial(config, notifier, blind=fault is not None)
    feed = Feed(config.camera, stop, vision.wants_frames)
    try:
        vision.report("starting")
        with ControlServer(config.data.control_socket, _provisioning(config.data)) as control:
            notifier.ready("recognising")
            for frame in feed.frames():
                vision.step(frame)
                feed.set_fps(vision.capture_fps)
                control.poll(vision.answer)
                if hangup.is_set():
                    hangup.clear()  # before the settings are read, so that a later signal is not lost
                    vision.then = max(vision.then, Then.RELOAD)
                if vision.then:
                    vision.stop_was_asked()
                    return None
                vision.each_second(feed.problem)
    finally:
        if not vision.then:
            notifier.stopping()
        vision.finish()
    return 1 if feed.damaged else 0


def _provisioning(data: DataFolder) -> tuple[int, ...]:
    """Return the user of the provisioning process: the owner of its folder."""
    try:
        return (data.provision.stat().st_uid,)
    except OSError:
        return ()


def _on_trial(config: Config, notifier: Notifier, *, blind: bool) -> _Vision:
    """Build the run; if a new model does not work, return to the one before."""
    slots = Slots(config.data.models)
    if failed := slots.begin_start():
        _log.error("the model in slot %s has not worked: back to slot %s", failed, slots.active)
    try:
        slots.check(config.provision.update_key)
    except ModelError as e:
        _log.error("the models in slot %s are given up for the built-in ones: %s", slots.distrust(), e)
    try:
        return _Vision(config, notifier, blind=blind)
    except ModelError as e:
        if not slots.on_trial:
            raise
        _log.error("the new model does not work, back to slot %s: %s", slots.roll_back(), e)
        return _Vision(config, notifier, blind=blind)


def _gallery_of(config: Config) -> tuple[LiveGallery, str]:
    """Return the gallery and the fault of the store; with a recording as the source, raise the fault."""
    gallery = LiveGallery(config, read=False)
    try:
        conversion.follow(config)
        gallery.refresh()
    except (StoreError, StoreKeyError) as e:
        if config.camera.source in FINITE:
            raise
        _log.error("%s: %s", _NOBODY, e)
        return gallery, str(e)
    return gallery, ""


class _Vision:
    """The parts of one run: the pipeline, its gallery, and its outbox."""

    def __init__(self, config: Config, notifier: Notifier, *, blind: bool) -> None:
        self._config = config
        self._notifier = notifier
        self._blind = blind  # the owner's settings are missing: nobody may be recognised
        self._slots = Slots(config.data.models)
        self._gallery, self._store_problem = _gallery_of(config)
        self._liveness = liveness_stage.open_stage(config)
        self._pipeline = build_pipeline(config, self._gallery, self._liveness.stage)
        self._memory = VisitMemory(config, self._gallery)
        self._matcher = self._gallery.matcher
        self._pipeline.matcher = self._memory.matcher()
        self.owner = OwnerRequests(config, self._gallery, memory=self._memory)
        self.then = Then.GO_ON  # what the owner's requests require of this run
        self._rates = initial_rates(config)
        self._power = PowerManager(config, self._rates, now_s())
        self._detector_px = config.detector.max_side_px
        self._backlog = Backlog(
            config.data.outbox,
            device=config.device.id,
            boot=new_boot(),
            max_events=config.outbox.max_events,
            max_age_s=config.outbox.max_age_h * 3600,
        )
        before = self._backlog.last_state()
        self._presence = PresenceBoard(config.privacy.presence, {} if before is None else before.presence)
        self._presence_changed = False
        self._recognition = self._backlog.settings().recognition
        if not self._recognition:
            _log.warning("recognition is switched off, as it was set over MQTT or by: edge-daemon recognition off")
        self._reason: Reason = "starting"
        self._sight = SightServer(config.data.sight_socket)
        self._silences = SilenceLog(config.recognition.min_embeddings)
        self._checked_s = self._reported_s = now_s()

    def wants_frames(self) -> bool:
        """Whether frames are needed now."""
        return (self._recognises and self._power.orders.mode != "suspended") or self.owner.wants_frames

    @property
    def _recognises(self) -> bool:
        return self._recognition and self._gallery.known and not self._blind

    @property
    def capture_fps(self) -> float:
        """The camera's rates now: during an enrolment the governor's do not apply."""
        return self._config.camera.fps if self.owner.wants_frames else self._rates.capture_fps

    def step(self, frame: Frame | None) -> None:
        """Take one frame through the pipeline and its decisions to the outbox; None: no frame came."""
        if frame is not None and self.owner.wants_frames:
            self.owner.see(frame)  # enrolment frames create no encounter
            frame = None
        now, pipeline = now_s(), self._pipeline
        for decision in pipeline.idle(now) if frame is None else pipeline.process(frame):
            self._publish(decision)
        self._note_silences()
        self._sight.show(self._in_view, now)
        self._power.note(pipeline.counters, pipeline.undecided, pipeline.tracker.active, now)
        self._follow_power()

    def each_second(self, camera: Reason | None) -> None:
        """Check settings, store and watchdog about once a second, and write the state when it is due or has changed.

        `camera`: the fault of the camera.
        """
        now = now_s()
        if now - self._checked_s < _PERIOD_S:
            return
        self._checked_s = now
        self._recognition = self._backlog.settings().recognition
        self._backlog.retry()
        self._follow_store()
        self._memory.tick(now)
        mode = self._power.orders.mode
        self._power.tick(now)
        self._follow_power()
        reason = self._reason_now(camera)
        self._note_rest(reason, now)
        self._silences.looks(self._pipeline.reasons.counts)
        changed = reason != self._reason or mode != self._power.orders.mode or self._presence_changed
        if changed or now - self._reported_s >= self._config.mqtt.state_every_s:
            self.report(reason)
        self._notifier.alive(f"{reason}, {self._pipeline.counters.frames} frames, {self._backlog.appended} events")

    def answer(self, request: ControlRequest | None) -> ControlReply:
        """Answer the owner; None: the client has disconnected. After an EdgeError nothing has changed."""
        if request is None:
            self.owner.hung_up()
            return Done()
        reply, then = self.owner.handle(request, self._reason)
        self.then = max(self.then, then)
        return reply

    def stop_was_asked(self) -> None:
        """Do not count this start as a failure of a model on trial: the stop was requested."""
        self._slots.end_start()

    def finish(self) -> None:
        """End all encounters, write a last state, and close what the next run opens again."""
        self.owner.hung_up()
        if self.then is Then.FORGET:
            self._backlog.forget()
            self._memory.forget()
        else:
            for decision in self._pipeline.finish():
                self._publish(decision)
            self._note_silences()
            self._silences.total(self._pipeline.reasons.counts, self._backlog.appended)
            self._memory.tick(now_s(), last=True)
        self.report("stopping")
        self._sight.close()
        self._power.save(now_s())
        self._power.close()
        self._backlog.close()

    def report(self, reason: Reason) -> None:
        """Write the state to the outbox, for the publisher and for `status`."""
        self._reason = reason
        self._reported_s = now_s()
        self._presence_changed = False
        counters = self._pipeline.counters
        state = VisionState(
            boot=self._backlog.boot,
            mode=self._power.orders.mode if self._recognises else "suspended",
            reason=reason,
            recognition=self._recognition,
            capture_fps=self._rates.capture_fps,
            detector_hz=self._rates.detector_hz,
            embeddings_hz=self._rates.embeddings_hz,
            frames=counters.frames,
            faces=counters.faces,
            embeddings=counters.embeddings,
            events=self._backlog.appended,
            silent=counted(self._pipeline.reasons),
            held=self._backlog.held,
            **state_fields(self._power.orders, self._reported_s),
            wish=self._power.wish,
            liveness="broken" if self._liveness.problem else self._config.liveness.mode,
            pictures=counters.pictures,
            presence=self._presence.state(),
            model=self._gallery.model[:16],
        )
        self._backlog.put_state(state)

    def _reason_now(self, camera: Reason | None) -> Reason:
        if not self._recognition:
            return "paused"
        if not self._recognises:
            return "settings" if self._blind else "store"
        if camera is not None:
            return camera
        orders = self._power.orders
        if orders.mode != "active":
            return orders.reason
        problems: dict[Reason, object] = {
            "disk": self._backlog.problem,
            "store": self._store_problem,
            "liveness": self._liveness.problem,
        }
        return next((reason for reason, problem in problems.items() if problem), orders.reason)

    def _follow_power(self) -> None:
        """Apply the governor's orders; a suspended pipeline keeps its rates, since it gets no frames."""
        orders, rates = self._power.orders, self._power.rates
        if orders.mode == "suspended":
            return
        if rates != self._rates:
            self._rates = rates
            self._pipeline.set_rates(rates)
        if orders.detector_px != self._detector_px:
            self._detector_px = orders.detector_px
            self._pipeline.detector.set_max_side(orders.detector_px)
        if orders.threads != cv2.getNumThreads():  # the present rates: an enrolment also sets them
            cv2.setNumThreads(orders.threads)

    def _publish(self, decision: Decision) -> None:
        named = self._config.privacy.publish_names and decision.person is not None
        self._backlog.append(
            event_type=decision.event_type,
            encounter=decision.encounter,
            person=decision.person,
            band=decision.band,
            model=self._gallery.model,
            born=moment(decision.t_s),
            name=self._gallery.name_of(decision.person) if named and decision.person is not None else None,
            live=decision.live,
        )
        self._memory.note(decision)
        self._presence_changed |= self._presence.note(
            decision.event_type,
            decision.person,
            decision.encounter,
            moment(decision.t_s).wall_ms // 1000,
            picture=decision.live is False,
        )
        if decision.event_type == "unknown":
            self._pipeline.reasons.note(["nobody near"], decision.t_s)
        _log.info("encounter %d: %s", decision.encounter, decision.event_type)
        _log.debug("encounter %d: person %s", decision.encounter, decision.person)  # no names in the log

    def _in_view(self) -> dict[str, Any]:
        pipeline = self._pipeline
        return described(pipeline.view, pipeline.encounters, self._gallery, self._reason, now_s())

    def _note_silences(self) -> None:
        for silence in self._pipeline.silences():
            self._silences.over(silence)

    def _note_rest(self, reason: Reason, now: float) -> None:
        """Count each pause of recognition, and each stop because of low energy or heat."""
        if reason != self._reason and reason == "paused":
            self._pipeline.reasons.note(["paused"], now)
        elif reason != self._reason and self._recognises and self._power.orders.mode == "suspended":
            self._pipeline.reasons.note(["no energy"], now)

    def _follow_store(self) -> None:
        """Use the people enrolled now. After a fault, which is logged once, use the last known ones."""
        try:
            self._slots.prove()
            self._gallery.refresh()
            if self._matcher is not self._gallery.matcher:
                self._matcher = self._gallery.matcher
                self._pipeline.matcher = self._memory.matcher()
                _log.info("the template store has changed: %d people", self._gallery.people_count)
            self._store_problem = ""
        except EdgeError as e:
            if str(e) != self._store_problem:
                _log.error("%s: %s", "the last known people stay in use" if self._gallery.known else _NOBODY, e)
            self._store_problem = str(e)
