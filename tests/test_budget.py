"""The budget: what is billed is counted, and stopped before it is too much."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from test_client import OWN, PART, RECORD, SOURCE, play

from reconcile.errors import ApiError, AuthError, BudgetError, UnreachableError
from reconcile.reports.budget import Budget
from reconcile.reports.client import Client

__all__ = ["play"]


def spend(budget: Budget, records: int) -> None:
    with budget.asking(records) as bill:
        bill(records)


def test_what_came_is_spent() -> None:
    """What came is spent, not what was set aside for it."""
    budget = Budget(None)
    with budget.asking(1000) as bill:
        bill(7)
    assert (budget.spent, budget.lost) == (7, 0)


def test_no_more_than_is_allowed() -> None:
    """The request that could exceed the budget is not made; one that cannot is."""
    budget = Budget(10)
    spend(budget, 4)
    with pytest.raises(BudgetError, match="max_billed_records is 10 and 4 are spent"):
        budget.hold(7)
    spend(budget, 6)
    assert budget.spent == 10


def test_nothing_is_left() -> None:
    """A request of unknown size is allowed while anything is left."""
    budget = Budget(1)
    assert budget.hold(0) == 0
    spend(budget, 1)
    with pytest.raises(BudgetError):
        budget.hold(0)


def test_no_budget() -> None:
    """Without a limit everything is allowed, and counted."""
    budget = Budget(None)
    spend(budget, 10**12)
    assert budget.spent == 10**12


def test_what_is_under_way_is_waited_for() -> None:
    """What is set aside for requests under way is given away once they have cost less."""
    budget, order = Budget(10), []

    def later() -> None:
        budget.hold(9)
        order.append("given away")

    waiting = threading.Thread(target=later)
    with budget.asking(6) as bill:
        waiting.start()
        time.sleep(0.05)
        order.append("billed")
        bill(1)
    waiting.join()
    assert order == ["billed", "given away"]


def test_what_is_under_way_is_not_waited_for_in_vain() -> None:
    """Nobody waits for others whose end could not help."""
    budget = Budget(10)
    spend(budget, 5)
    with budget.asking(5) as bill:
        with pytest.raises(BudgetError, match="5 are spent"):
            budget.hold(6)
        bill(0)


def test_what_is_under_way_uses_the_budget_up() -> None:
    """Who waited in vain is told so once the others have spent what is left."""
    budget, told = Budget(10), []

    def later() -> None:
        with pytest.raises(BudgetError, match="8 are spent"):
            budget.hold(5)
        told.append(1)

    waiting = threading.Thread(target=later)
    with budget.asking(8) as bill:
        waiting.start()
        bill(8)
    waiting.join()
    assert told == [1]


@pytest.mark.parametrize("error", [ApiError(500, "x"), AuthError(401, "x")])
def test_refusals_cost_nothing(error: ApiError) -> None:
    """An answer that is a refusal was not billed."""
    budget = Budget(10)
    with pytest.raises(ApiError), budget.asking(10):
        raise error
    assert (budget.spent, budget.lost, budget.hold(10)) == (0, 0, 10)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, UnreachableError])
def test_what_ends_without_an_answer(error: type[BaseException]) -> None:
    """A request that ends in any other way was perhaps billed."""
    budget = Budget(10)
    with pytest.raises(error), budget.asking(10):
        raise error
    assert (budget.spent, budget.lost) == (0, 10)
    with pytest.raises(BudgetError):
        budget.hold(1)


def test_threads() -> None:
    """Threads together spend just what is allowed, and all that they spend is counted."""
    budget, refused = Budget(1000), []

    def work() -> None:
        for _ in range(50):
            try:
                with budget.asking(7) as bill:
                    assert budget.spent <= 1000
                    time.sleep(0)
                    bill(7)
            except BudgetError:
                refused.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.spent == 994  # the most of 7 each that fit
    assert len(refused) == 8 * 50 - 994 // 7


# Over HTTP


def budget_of(play: Any, script: Any, most: int | None = None, **flags: Any) -> tuple[Budget, int]:
    """What a listing cost, and how many requests it took."""
    budget = Budget(most)
    with play(script, **flags) as it:
        it.client._budget = budget
        with suppress(UnreachableError, ApiError, BudgetError):
            it.page()
        return budget, len(it.seen)


def cut(handler: Any) -> None:
    handler.answer(200, b'{"records": [', Content_Length="5000")
    handler.cut()


@pytest.mark.parametrize(
    ("fault", "lost"),
    [
        (cut, 1000), (lambda h: h.cut(), 1000), (lambda h: h.answer(200, b"<html>"), 1000),
        (lambda h: h.answer(503), 0), (lambda h: h.answer(429), 0), (lambda h: h.answer(422), 0),
    ],
)  # fmt: skip
def test_lost_answers(play: Any, fault: Any, lost: int) -> None:
    """An answer that was lost on its way may have cost a whole page; a refusal nothing."""
    budget, _ = budget_of(play, lambda handler, _: fault(handler), retries=0)
    assert (budget.spent, budget.lost) == (0, lost)


def test_a_stall_is_a_lost_answer(play: Any) -> None:
    """An answer that nobody waited for was perhaps billed."""
    gone = threading.Event()
    budget, _ = budget_of(play, lambda *_: gone.wait(5) and None, retries=0, read_timeout="100ms")
    gone.set()
    assert (budget.spent, budget.lost) == (0, 1000)


def test_lost_answers_use_the_budget_up(play: Any) -> None:
    """Each lost answer counts: tries end before they could exceed the budget."""
    budget, requests = budget_of(play, lambda handler, _: cut(handler), most=2500, retries=6)
    assert (budget.lost, requests) == (2000, 2)


def test_refused_connections(configure: Any) -> None:
    """A request that never reached Vonage costs nothing, however often it was tried."""
    budget = Budget(1000)
    client = Client(OWN, configure(base_url="http://127.0.0.1:9", retries=2), budget)
    with pytest.raises(UnreachableError):
        list(client.records(PART))
    client.close()
    assert (budget.spent, budget.lost) == (0, 0)


def test_by_id(play: Any) -> None:
    """A question by id may cost as many records as it names, and costs those that came."""
    budget = Budget(5)
    with play(lambda handler, _: handler.answer(200, {"records": [RECORD] * 3})) as it:
        it.client._budget = budget
        it.client.records_by_id(SOURCE, ["a", "b", "c", "d", "e"])
        with pytest.raises(BudgetError):
            it.client.records_by_id(SOURCE, ["a", "b", "c"])
        assert len(it.seen) == 1
    assert budget.spent == 3
