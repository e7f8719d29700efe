"""``auditkit schema``: the published JSON Schemas."""

from __future__ import annotations

import json

import click


@click.command()
@click.argument("what", type=click.Choice(["evidence", "config", "policy"]))
def schema(what: str) -> None:
    """Print the JSON Schema of the evidence, the configuration or the policy."""
    if what == "evidence":
        from auditkit.core.schema import evidence_schema

        document = evidence_schema()
    elif what == "config":
        from auditkit.config.model import config_schema

        document = config_schema()
    else:
        from auditkit.policy.model import POLICY_SECTIONS, Policy

        document = Policy.model_json_schema()
        document["properties"] = {key: document["properties"][key] for key in POLICY_SECTIONS}
        document |= {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "auditkit-policy/1"}
    click.echo(json.dumps(document, indent=2, sort_keys=True))
