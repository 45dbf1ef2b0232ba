"""Exact values that models and chains are measured by: functions valid on their whole domain, in numpy and scipy."""
