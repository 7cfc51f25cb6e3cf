"""What all agent programs share: strict schemas and checked tasks; and the tools of the smaller ones."""

import pytest

from sfi_sglang.agents.data import data
from sfi_sglang.agents.forkjoin import fork_join
from sfi_sglang.agents.logbook import Completion, logbook
from sfi_sglang.agents.program import Task
from sfi_sglang.agents.repo import repo
from sfi_sglang.agents.research import MAX_NOTES, Fact, research
from sfi_sglang.agents.tools import ToolError
from tests.agent_tools import caller

PROGRAMS = [repo(), data(), research(), fork_join(), logbook()]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_schemas_are_strict(program):
    for tool in program.toolbox():
        function = tool.definition()["function"]
        schema = function["parameters"]
        assert function["strict"] is True and schema["additionalProperties"] is False
        assert sorted(schema["required"]) == sorted(schema["properties"])


def test_notes_belong_to_one_run():
    first, second = (caller(research().toolbox()) for _ in range(2))
    assert first("list_notes", newest=3) == "no notes"
    assert first("write_note", text="The tab size is 8.") == "note 1 written"
    first("write_note", text="The debugger lists 11 lines.")
    assert first("list_notes", newest=1) == "2. The debugger lists 11 lines."
    assert first("list_notes", newest=3).startswith("1. The tab size is 8.\n2. ")
    assert second("list_notes", newest=3) == "no notes"
    for _ in range(MAX_NOTES - 2):
        first("write_note", text="more")
    with pytest.raises(ToolError, match="notes already"):
        first("write_note", text="too many")


def test_sections_are_listed_searched_and_read():
    run = caller(research().toolbox())
    assert "async: " in run("list_sections", pattern="as*")
    assert "async:" in run("search", pattern="Coroutine function definition")
    assert run("read_section", path="async", start=1, end=1) == "1: Coroutines"
    with pytest.raises(ToolError, match="no such section"):
        run("read_section", path="absent", start=1, end=1)


def test_a_fact_that_the_document_lacks_is_an_error():
    with pytest.raises(LookupError, match="async"):
        Fact("async", r"absent (\d+)", "absent", "").value  # noqa: B018


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_tasks_check_their_answer_and_never_tell_it(program):
    names = {tool.name for tool in program.toolbox()}
    assert len(program.tasks) >= 3 and program.task(program.tasks[1].name) is program.tasks[1]
    for task in program.tasks:
        steps = [*task.plan, *getattr(task, "branch", ()), *getattr(task, "merge", ())]
        assert {step.tool for step in steps} <= names
        values = task.expected if isinstance(task.expected, tuple) else (task.expected,)
        said = " and ".join(map(str, values))
        assert task.check(f"In POP3 2.5 it is {said}.") and not task.check(None)
        assert not task.check(f"It is {said}9.")
        told = [step.instruction for step in steps if step.tool in ("answer", "write_note", "calculate")]
        told += [task.begins] if isinstance(task, Completion) else []
        assert told and not any(task.check(text) for text in [task.question, *told])
    with pytest.raises(ValueError, match=f"task: {program.name} has no 'absent', but"):
        program.task("absent")


def test_several_numbers_are_expected_in_their_order():
    task = Task("ports", "Which?", (993, 1000))
    assert task.check("993, 1000") and task.check("For 7 ports: 993 and 1,000.")
    assert not task.check("1000, 993") and not task.check("1000") and not task.check("993, 1000, 5")


def test_a_text_is_expected_as_whole_words():
    task = Task("category", "Which?", "Lo")
    assert task.check("The category is Lo.") and not task.check("Lost") and not task.check("lo")


def test_the_logbook_tells_each_record_once_and_is_the_same_each_time():
    tell = caller(logbook().toolbox())
    pages = [tell("read_pages", first=i, last=i + 1) for i in (1, 3, 5, 7)]
    assert (
        tell("read_pages", first=1, last=8)
        == "\n".join(pages)
        == caller(logbook().toolbox())("read_pages", first=1, last=8)
    )
    whole = "\n".join(pages)
    for task in logbook().tasks:
        assert whole.count(task.begins) == 1 and f"{task.begins} {task.expected}" in whole
        assert task.check(f"{task.begins} {task.expected} of 4.")
        assert not task.check(f"{task.begins} 4, {task.expected}.")
    assert sum(word.strip(".").isdigit() for word in whole.split()) == len(logbook().tasks)
    assert logbook(seed=2).tasks != logbook().tasks
    with pytest.raises(ToolError, match="before first"):
        tell("read_pages", first=2, last=1)
