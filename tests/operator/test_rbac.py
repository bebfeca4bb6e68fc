"""The permissions, held to what security asks of them."""

from fettle_operator.rbac import RULES


def test_nothing_is_granted_by_wildcard() -> None:
    assert all("*" not in (rule.api_group, rule.resource, *rule.verbs) for rule in RULES)


def test_no_secret_is_read_and_no_command_is_run() -> None:
    assert {rule.resource for rule in RULES}.isdisjoint(
        {"secrets", "pods/exec", "pods/attach", "serviceaccounts/token"}
    )


def test_nothing_but_jobs_is_ever_deleted() -> None:
    """The garbage collector removes children; a PersistentVolumeClaim is nobody's business but its owner's."""
    assert [rule.resource for rule in RULES if "delete" in rule.verbs] == ["jobs"]


def test_each_resource_is_listed_once_with_its_reason() -> None:
    keys = [(rule.api_group, rule.resource) for rule in RULES]

    assert len(keys) == len(set(keys))
    assert all(rule.reason for rule in RULES)
