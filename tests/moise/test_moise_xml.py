"""The XML form: everything the schema has is kept, everything else is refused with its line, nothing is fetched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vrooli_cli.errors import DefinitionError
from vrooli_cli.model.organization import (
    Cardinality,
    Compatibility,
    FormationCardinality,
    Link,
    Mission,
    Norm,
    OrganisationSpec,
    Plan,
    Report,
    ReportGoal,
)
from vrooli_cli.tier1.moise import Organisation, load_organisation
from vrooli_cli.tier1.moise.spec import organisation_from_data, organisation_to_data

NAMESPACE = "http://moise.sourceforge.net/os"

LIBRARY = f"""<?xml version="1.0" encoding="UTF-8"?>
<?xml-stylesheet href="os.xsl" type="text/xsl" ?>
<organisational-specification id="library" os-version="1.1" xmlns="{NAMESPACE}"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:schemaLocation="{NAMESPACE} http://nowhere.invalid/os.xsd">
  <properties><property id="owner" value="the town"/></properties>
  <structural-specification>
    <role-definitions>
      <role id="member"/>
      <role id="librarian"><properties><property id="badge" value="yes"/></properties><extends role="member"/></role>
      <role id="archivist"><extends role="librarian"/><extends role="member"/></role>
      <role id="reader"/>
    </role-definitions>
    <link-types><link-type id="authority"/><link-type id="communication"/></link-types>
    <group-specification id="house">
      <roles><role id="librarian" min="1" max="2"/></roles>
      <links>
        <link from="librarian" to="soc" type="authority" scope="inter-group" extends-subgroups="true" bi-dir="false"/>
      </links>
      <subgroups>
        <group-specification id="desk" min="1">
          <roles><role id="archivist"/><role id="reader" max="30"/></roles>
          <formation-constraints>
            <cardinality min="1" max="3" object="role" id="archivist"/>
            <compatibility from="archivist" to="reader" bi-dir="1"/>
          </formation-constraints>
        </group-specification>
      </subgroups>
      <formation-constraints>
        <cardinality max="2" object="group" id="desk"/>
        <compatibility from="librarian" to="reader" type="compatibility" scope="inter-group" extends-subgroups="true"/>
      </formation-constraints>
    </group-specification>
  </structural-specification>
  <functional-specification>
    <scheme id="lending">
      <goal id="lent" min="1" ds="the book is lent" type="performance" ttf="2 days" location="front">
        <argument id="Book" value="any"/><argument id="Who"/>
        <plan operator="sequence" success-rate="0.75">
          <goal id="found" type="maintenance"/>
          <goal id="handed"><plan operator="choice"><goal id="here"/><goal id="there"/></plan></goal>
          <goal id="noted"><depends-on goal="found"/></goal>
        </plan>
      </goal>
      <notification-policy id="p" target="found" condition="failed(S,found) &amp; true" type="exception">
        <report id="lost"><argument id="shelf" arity="2"/>
          <raise-goal id="tell" when="now"/><handle-goal id="search_again"/>
        </report>
      </notification-policy>
      <notification-policy id="q" target="noted" condition="true" type="accountability">
        <report id="why"><requesting-goal id="ask"/><accounting-goal id="answer"/></report>
      </notification-policy>
      <mission id="serve" min="1" max="2">
        <goal id="found"/><goal id="here"/><goal id="noted"/><goal id="tell"/><preferred mission="keep"/>
      </mission>
      <mission id="keep"><goal id="lent"/></mission>
    </scheme>
  </functional-specification>
  <normative-specification>
    <properties><property id="default_management" value="fail"/></properties>
    <norm id="n1" type="obligation" role="librarian" mission="serve" time-constraint="1 hour" condition="open"/>
    <norm id="n2" type="permission" role="soc" mission="lending.keep"/>
    <npl-norms>
      norm x: a &amp; b -> fail(c).
    </npl-norms>
  </normative-specification>
</organisational-specification>
"""


def load(tmp_path: Path, text: str, name: str = "os.xml") -> OrganisationSpec:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return load_organisation(file)


def problems(tmp_path: Path, text: str) -> list[str]:
    """What is said about a file, without its folder."""
    with pytest.raises(DefinitionError) as caught:
        load(tmp_path, text)
    return [str(p).replace(f"{tmp_path}/", "") for p in caught.value.problems]


def minimal(body: str, namespace: str = NAMESPACE) -> str:
    return f'<organisational-specification os-version="1" xmlns="{namespace}">\n{body}\n</organisational-specification>'


def structural(body: str) -> str:
    return minimal(f"<structural-specification>\n{body}\n</structural-specification>")


def scheme(body: str) -> str:
    return minimal(f'<functional-specification><scheme id="s">\n{body}\n</scheme></functional-specification>')


# What is kept


def test_structure_is_read_with_defaults_and_all_relations(tmp_path: Path) -> None:
    spec = load(tmp_path, LIBRARY)
    house = spec.structural.groups["house"]
    (desk,) = house.subgroups
    assert (spec.id, spec.version, spec.properties) == ("library", "1.1", {"owner": "the town"})
    assert spec.structural.roles["archivist"].extends == ("librarian", "member")
    assert spec.structural.roles["librarian"].properties == {"badge": "yes"}
    assert house.roles == {"librarian": Cardinality(1, 2)}
    assert house.links == (Link("librarian", "soc", "authority", "inter-group", True, False),)
    assert house.compatibilities == (Compatibility("librarian", "reader", "inter-group", True, False),)
    assert house.cardinalities == (FormationCardinality("group", "desk", Cardinality(0, 2)),)
    assert (desk.cardinality, desk.roles["archivist"]) == (Cardinality(1, None), Cardinality(0, None))
    assert desk.compatibilities == (Compatibility("archivist", "reader", "intra-group", False, True),)


def test_schemes_are_read_with_goals_missions_and_notifications(tmp_path: Path) -> None:
    lending = load(tmp_path, LIBRARY).functional.schemes["lending"]
    lent = lending.goals["lent"]
    assert lending.root == "lent"
    assert list(lending.goals)[:6] == ["lent", "found", "handed", "here", "there", "noted"]
    assert (lent.min, lent.ttf, lent.location, lent.type) == (1, "2 days", "front", "performance")
    assert lent.arguments == {"Book": "any", "Who": None}
    assert lent.plan == Plan("sequence", ("found", "handed", "noted"), 0.75)
    assert lending.goals["noted"].depends_on == ("found",)
    goals = ("found", "here", "noted", "tell")
    assert lending.missions["serve"] == Mission("serve", goals, Cardinality(1, 2), ("keep",))
    first, second = lending.notifications
    assert first.reports == (
        Report("lost", (ReportGoal("raise", "tell", "now"), ReportGoal("handle", "search_again")), {"shelf": 2}),
    )
    assert [g.kind for g in second.reports[0].goals] == ["requesting", "accounting"]


def test_norms_are_read_with_conditions_times_and_free_programs(tmp_path: Path) -> None:
    normative = load(tmp_path, LIBRARY).normative
    assert normative.norms == (
        Norm("n1", "obligation", "librarian", "serve", condition="open", ttf="1 hour"),
        Norm("n2", "permission", "soc", "lending.keep"),
    )
    assert normative.npl == "norm x: a & b -> fail(c)."


def test_xml_and_yaml_forms_round_trip(tmp_path: Path) -> None:
    spec = load(tmp_path, LIBRARY)
    assert organisation_from_data(organisation_to_data(spec)) == spec


def test_a_yaml_file_loads_to_the_same_organisation(tmp_path: Path) -> None:
    from vrooli_cli.loading.write import plain_yaml

    spec = load(tmp_path, LIBRARY)
    data = organisation_to_data(spec)
    assert load(tmp_path, plain_yaml(data), "os.yaml") == spec
    assert load(tmp_path, plain_yaml({"constraints": data}), "within.yaml") == spec


def test_problems_of_a_yaml_file_have_their_place(tmp_path: Path) -> None:
    text = "constraints:\n  structural:\n    roles:\n      a: {extends: [b]}\n"
    (tmp_path / "o.yaml").write_text(text)
    with pytest.raises(DefinitionError) as caught:
        load_organisation(tmp_path / "o.yaml")
    assert str(caught.value.problems[0]).endswith("o.yaml:4:21: unknown role 'b'")


@pytest.mark.parametrize(
    "host", ["http://moise.sourceforge.net", "https://moise-lang.github.io", "http://moise-lang.github.io"]
)
def test_every_published_namespace_is_taken(tmp_path: Path, host: str) -> None:
    assert load(tmp_path, minimal("", f"{host}/os")) == OrganisationSpec(version="1")


def test_empty_parts_and_missing_role_definitions_are_allowed(tmp_path: Path) -> None:
    text = minimal(
        '<structural-specification><group-specification id="g"><roles><role id="a"/></roles>'
        "<formation-constraints> </formation-constraints></group-specification></structural-specification>"
        "<functional-specification/><normative-specification></normative-specification>"
    )
    assert list(load(tmp_path, text).structural.roles) == ["a"], "the group's list defines it"


def test_a_loaded_file_runs_in_the_engine(tmp_path: Path) -> None:
    org = Organisation(load(tmp_path, LIBRARY))
    org.add_agent("ana")
    org.create_group("house", "h")
    org.adopt_role("ana", "librarian", "h")
    org.create_group("desk", "d", "h")
    org.create_scheme("lending")
    assert org.group_well_formed("h")
    assert "search_again" in org.goal_states()


# What is refused


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<role-definitons/>", "os.xml:3:1: <role-definitons> is not expected in <structural-specification>"),
        (
            '<role-definitions><role id="a"><extends role="b"/></role></role-definitions>',
            "os.xml:3:19: unknown role 'b'",
        ),
        ("<role-definitions><role/></role-definitions>", "<role> lacks the attribute 'id'"),
        (
            '<role-definitions><role id="a"/>\n<role id="a"/></role-definitions>',
            "4:1: the role 'a' is defined twice",
        ),
        ('<group-specification id="g" monitoring="x"/>', "<group-specification> has no attribute 'monitoring'"),
        (
            '<group-specification id="g"><roles><role id="a" min="2" max="1"/></roles></group-specification>',
            "less than 'min'",
        ),
        (
            '<group-specification id="g"><roles><role id="a" min="-1"/></roles></group-specification>',
            "must be a whole number",
        ),
        ('<group-specification id="g">text</group-specification>', "holds elements only"),
        ('<group-specification id="g"/><role-definitions/>', "os.xml:3:30: <role-definitions> is out of place"),
        ('<group-specification id="g"/><group-specification id="h"/>', "more than one <group-specification>"),
        (
            '<group-specification id="g"><roles><role id="a"/></roles><formation-constraints>\n'
            '<compatibility from="a" to="z"/></formation-constraints></group-specification>',
            "os.xml:4:1: unknown role 'z'",
        ),
        (
            '<group-specification id="g"><roles><role id="a"/></roles><links>'
            '<link from="a" to="a" type="authority" scope="between"/></links></group-specification>',
            "must be one of intra-group, inter-group, found 'between'",
        ),
        (
            '<role-definitions><role id="a"><extends role="b"/></role><role id="b"><extends role="a"/></role>'
            "</role-definitions>",
            "the role 'a' inherits from itself",
        ),
    ],
)
def test_a_wrong_structure_is_told_with_its_line(tmp_path: Path, body: str, expected: str) -> None:
    assert any(expected in line for line in problems(tmp_path, structural(body)))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", "<scheme> lacks <goal>"),
        (
            '<goal id="g"><plan operator="race"><goal id="h"/></plan></goal>',
            "one of sequence, choice, parallel",
        ),
        ('<goal id="g"><plan operator="choice"/></goal>', "<plan> lacks <goal>"),
        ('<goal id="g"><plan operator="choice"><goal id="g"/></plan></goal>', "the goal 'g' is defined twice"),
        ('<goal id="g"><depends-on goal="h"/></goal>', "unknown goal 'h'"),
        ('<goal id="g"/>\n<mission id="m"><goal id="h"/></mission>', "os.xml:4:17: unknown goal 'h'"),
        ('<goal id="g"/><mission id="m"/>', "<mission> lacks <goal>"),
        ('<goal id="g"/><mission id="m"><goal id="g"/><preferred mission="x"/></mission>', "unknown mission 'x'"),
        ('<goal id="g"/><goal id="h"/>', "more than one <goal>"),
        (
            '<goal id="g"/><notification-policy id="p" target="g" condition="c" type="exception"><report id="r">'
            '<raise-goal id="x"/></report></notification-policy>',
            "<report> lacks <handle-goal>",
        ),
    ],
)
def test_a_wrong_scheme_is_told(tmp_path: Path, body: str, expected: str) -> None:
    assert any(expected in line for line in problems(tmp_path, scheme(body)))


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        ('<norm id="n" type="obligation" role="a" mission="m"/>', "unknown mission 'm'"),
        ('<norm id="n" type="prohibition" role="a" mission="m"/>', "must be one of obligation, permission"),
        ('<norm id="n" type="obligation" mission="m"/>', "<norm> lacks the attribute 'role'"),
    ],
)
def test_a_wrong_norm_is_told(tmp_path: Path, norm: str, expected: str) -> None:
    text = minimal(f"<normative-specification>{norm}</normative-specification>")
    assert any(expected in line for line in problems(tmp_path, text))


def test_every_problem_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    text = LIBRARY.replace('role="librarian" mission="serve"', 'role="libarian" mission="swerve"')
    found = problems(tmp_path, text)
    assert [line.split(": ", 1)[1] for line in found] == [
        "unknown role 'libarian' (did you mean 'librarian'?)",
        "unknown mission 'swerve' (did you mean 'serve'?)",
    ]


# What is not safe


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE organisational-specification [<!ENTITY a "aaaa">]>',
        '<!DOCTYPE organisational-specification SYSTEM "http://nowhere.invalid/x.dtd">',
        '<!DOCTYPE o [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    ],
)
def test_a_document_type_is_refused_before_anything_of_it_is_used(tmp_path: Path, head: str) -> None:
    (line,) = problems(tmp_path, head + minimal("&x;"))
    assert line.startswith("os.xml:1:")
    assert line.endswith(": a document type (and with it, entities) is not allowed here")


@pytest.mark.parametrize("text", ["<a", "<a><b></a>", "<a>&nope;</a>", "<", "<a>\x00</a>", "<a></a><b/>"])
def test_what_is_not_well_formed_has_a_place(tmp_path: Path, text: str) -> None:
    (line,) = problems(tmp_path, text)
    assert line.startswith("os.xml:")
    assert "well-formed" in line or "namespace" in line


def test_another_kind_of_file_is_refused_in_one_line(tmp_path: Path) -> None:
    assert len(problems(tmp_path, "<project><target/></project>")) == 1
    assert "expected <organisational-specification>" in problems(tmp_path, f'<scheme xmlns="{NAMESPACE}"/>')[0]


def test_depth_and_size_are_bounded(tmp_path: Path) -> None:
    deep = "<goal id='g'><plan operator='choice'>" * 100
    assert "nested deeper" in problems(tmp_path, scheme(deep))[0]
    wide = "<role-definitions>" + '<role id="a"/>' * 100_001
    assert "elements" in problems(tmp_path, structural(wide))[0]
    assert "larger than" in problems(tmp_path, "<a>" + " " * (4 * 1024 * 1024))[0]


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="cannot be read: No such file"):
        load_organisation(tmp_path / "none.xml")


# Includes


def including(uri: str) -> str:
    return structural(
        '<role-definitions><role id="a"/></role-definitions><group-specification id="g"><subgroups>'
        f'\n<include-group-specification uri="{uri}"/></subgroups></group-specification>'
    )


def test_a_group_is_included_from_a_file_beside(tmp_path: Path) -> None:
    (tmp_path / "sub.xml").write_text(
        f'<group-specification id="h" min="1" xmlns="{NAMESPACE}"><roles><role id="a"/></roles></group-specification>'
    )
    group = load(tmp_path, including("sub.xml")).structural.groups["g"]
    assert [(s.id, s.cardinality.min, list(s.roles)) for s in group.subgroups] == [("h", 1, ["a"])]


def test_an_organisation_is_included_with_its_roles_schemes_and_norms(tmp_path: Path) -> None:
    (tmp_path / "sub.xml").write_text(
        minimal(
            '<structural-specification><role-definitions><role id="a"/><role id="b"><extends role="a"/></role>'
            '</role-definitions><group-specification id="h"><roles><role id="b"/></roles></group-specification>'
            '</structural-specification><functional-specification><scheme id="s"><goal id="g"/>'
            '<mission id="m"><goal id="g"/></mission></scheme></functional-specification>'
            '<normative-specification><norm id="n" type="obligation" role="b" mission="m"/></normative-specification>'
        )
    )
    spec = load(
        tmp_path,
        minimal(
            '<structural-specification><role-definitions><role id="a"/></role-definitions><group-specification id="g">'
            '<subgroups><include-group-specification uri="sub.xml"/></subgroups><formation-constraints>'
            '<compatibility from="b" to="a"/></formation-constraints></group-specification></structural-specification>'
        ),
    )
    assert {name: role.extends for name, role in spec.structural.roles.items()} == {"a": (), "b": ("a",)}
    assert [g.id for g in spec.structural.groups["g"].subgroups] == ["h"]
    assert list(spec.functional.schemes) == ["s"]
    assert [n.mission for n in spec.normative.norms] == ["m"]


def test_a_file_to_include_that_is_not_there_is_told_where_it_is_named(tmp_path: Path) -> None:
    assert problems(tmp_path, including("sub.xml")) == [
        "os.xml:4:1: include 'sub.xml': there is no such file beside this one"
    ]


def test_a_role_that_a_group_lists_needs_no_definition(tmp_path: Path) -> None:
    body = (
        '<role-definitions><role id="a"/></role-definitions><group-specification id="g">'
        '<subgroups><group-specification id="h"><roles><role id="b"/></roles></group-specification></subgroups>'
        '<formation-constraints><compatibility from="a" to="b"/></formation-constraints></group-specification>'
    )
    assert list(load(tmp_path, structural(body)).structural.roles) == ["a", "b"]


def test_a_problem_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "sub.xml").write_text(
        f'<group-specification id="h" xmlns="{NAMESPACE}">\n<rolls/></group-specification>'
    )
    assert problems(tmp_path, including("sub.xml"))[0].startswith("sub.xml:2:1: <rolls> is not expected")


@pytest.mark.parametrize(
    "uri", ["../sub.xml", "/etc/passwd", "http://nowhere.invalid/x", "file:sub.xml", "a%2fb", "..", "a\\b"]
)
def test_nothing_else_is_included(tmp_path: Path, uri: str) -> None:
    assert "only a file beside this one" in problems(tmp_path, including(uri))[0]


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    outside = tmp_path / "outside" / "sub.xml"
    outside.write_text(f'<group-specification id="h" xmlns="{NAMESPACE}"/>')
    (tmp_path / "sub.xml").symlink_to(outside)
    assert "only a file beside this one" in problems(tmp_path, including("sub.xml"))[0]


def test_a_file_that_includes_itself_ends(tmp_path: Path) -> None:
    assert any("include" in line for line in problems(tmp_path, including("os.xml")))


def test_importing_the_package_loads_no_parser_and_no_solver() -> None:
    code = (
        "import sys, vrooli_cli.tier1.moise.organizer, vrooli_cli.tier1.moise as m\n"
        "bad = {'xml.parsers.expat', 'yaml', 'pysat', 'networkx', 'jinja2'} & set(sys.modules)\n"
        "assert not bad, bad\n"
        "assert m.load_organisation and m.Organisation and m.OrganisationError and m.OrganisationSpec and m.GoalState\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
