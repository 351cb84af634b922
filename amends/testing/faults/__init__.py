"""Tries a saga with every fault at every step, against real servers, and looks whether anything leaks.

A **scenario** says how a saga is asked for and what has to be true in the end. A dry run writes its steps and their
undos into a text file, the **table**, which is kept with the tests; the **cases** follow from it: each step, and each
undo, is refused, fails for hours, loses its answer, times out (without having acted, having acted, acting when all is
over), acts twice, is cancelled, is cancelled in the application's own way, is terminated, loses its worker to SIGKILL.

After each, the harness asserts that

- the saga has come to the end that the fault calls for, Completed or Compensated, and its log says so too; what parks
  is tried again as an operator would do it, what was terminated is swept up;
- the scenario's own check holds: the money, the goods;
- every undo can be done a second time, under another id, and nothing comes of it;
- no workflow of the saga is open and no activity at work;
- all histories replay.

Waits of days take milliseconds: time is skipped, on the real server. A saga of your own is tried by a file like this,
with `settings` that name an application, a database and a Temporal server that lets time be skipped:

    async def request(world: World, key: str) -> Stay:      # all names are made of the key
        return Stay(nights=(f"{key}-1", f"{key}-2"), guest=key)

    async def check(ended: Ended[Stay]) -> None:
        for night in ended.request.nights:
            assert (await ended.world.state(Night, night)).taken == ended.completed

    STAY = Scenario("book_stay", BookStay, request, check)
    TABLE = Path(__file__).with_name("book_stay.txt")
    CASES = FaultTable.read(TABLE).cases(["as_written"], STAY.faults)

    @pytest.fixture(scope="module")
    async def bench(settings):                              # settings.app says where the application is
        async with Bench.open(settings) as bench:
            yield bench

    @pytest.fixture(scope="module")
    async def campaign(bench):                              # tries them side by side
        async with Campaign(bench, [STAY], CASES) as campaign:
            yield campaign

    async def test_its_table_is_up_to_date(bench):          # the first run writes it
        await bench.verify(STAY, "as_written", TABLE)

    @pytest.mark.parametrize("case", CASES, ids=str)
    async def test_it_bears(campaign, case):
        await campaign.verdict(case)

A step that is added to the story makes the first test fail until the table is written anew; its cases then come by
themselves.
"""

from amends.testing.faults.bench import Bench
from amends.testing.faults.campaign import Campaign
from amends.testing.faults.fault import Fault
from amends.testing.faults.points import Case, Mount
from amends.testing.faults.scenario import Ended, Scenario, World
from amends.testing.faults.table import FaultTable

__all__ = ["Bench", "Campaign", "Case", "Ended", "Fault", "FaultTable", "Mount", "Scenario", "World"]
