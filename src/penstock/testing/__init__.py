"""Test doubles and a pytest plugin for applications that produce with Penstock."""
