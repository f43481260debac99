"""Which DSP process serves which arena."""

from __future__ import annotations

from supervisor.child import Event
from supervisor.spec import NOBODY
from tests.supervisor.world import gateway, ready_gateway


def test_one_dsp_process_is_left_as_standby() -> None:
    world = gateway(workers=3, dsps=3)
    world.say()
    world.tick()
    assert world.owners == [0, 1, 0, 1]
    world.die("dsp-0", -9)
    assert world.owners == [2, 1, 2, 1]
    world.settle(1000)
    assert world.owners == [2, 1, 2, 1]  # the replacement is the new standby
    world.die("dsp-2", -9)
    assert world.owners == [0, 1, 0, 1]


def test_standby_that_is_ready_first_waits_for_the_others() -> None:
    world = gateway()
    world.processes["dsp-1"].says = Event.READY
    world.tick()
    assert world.owners == [NOBODY] * 3
    world.die("dsp-0", 1)  # now waiting longer would only be a longer wait
    assert world.owners == [1, 1, 1]
    world.settle(1000)
    assert world.owners == [1, 1, 1]


def test_hung_dsp_process_keeps_its_arenas_until_it_is_reaped() -> None:
    world = ready_gateway()
    world.processes["dsp-0"].frozen = True
    while not world.processes["dsp-0"].doomed:
        world.tick()
    assert world.owners == [0, 0, 0]
    world.bury()
    assert world.owners == [1, 1, 1]
