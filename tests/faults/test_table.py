"""The table of the fault matrix: complete, and true to the tests there are."""

from pathlib import Path

from tests.faults import table

REPORT = """<testsuites><testsuite>
<testcase classname="tests.faults.test_t03_disk_full" name="test_t3_full[a]"><properties>
<property name="fault" value="T3 R2"/><property name="worst" value="4 ms"/></properties></testcase>
<testcase classname="tests.faults.test_t03_disk_full" name="test_t3_full[b]"><failure/></testcase>
<testcase classname="tests.store.test_x" name="test_other"/>
</testsuite></testsuites>"""


def test_every_fault_of_the_matrix_names_tests_that_exist() -> None:
    """T1 to T16 and R1 to R10 are all there, each with a test file that is in the tree."""
    wanted = [f"T{n}" for n in range(1, 17)] + [f"R{n}" for n in range(1, 11)]
    assert list(table.FAULTS) == wanted
    found = table.tests()
    assert set(wanted) <= found.keys()
    for fault, names in found.items():
        assert fault in table.FAULTS
        for name in names:
            assert (table.ROOT / name).is_file(), f"{fault} names {name}, which does not exist"


def test_the_page_shows_every_fault_and_its_tests() -> None:
    """docs/faults.md has a row for each fault, and every test it names exists."""
    page = table.PAGE.read_text()
    for fault in table.FAULTS:
        assert f"\n| {fault} | " in page
    links = [part.split(")")[0] for part in page.split("](../")[1:]]
    assert len(links) > len(table.FAULTS)
    for link in links:
        assert (table.ROOT / link).is_file(), link


def test_results_are_counted_by_fault(tmp_path: Path) -> None:
    """A case counts for the fault in its name and for those it says itself; others for none."""
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    found = table.ran([report])
    assert {fault: str(ran) for fault, ran in found.items()} == {
        "T3": "1 failed, 1 passed",
        "R2": "1 passed",
    }
    assert found["R2"].worst == ["4 ms"]
    assert table.main([str(report)]) == 1
