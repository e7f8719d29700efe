"""Policies and verdicts: rules, waivers and the states that follow from the evidence. Pure functions."""
