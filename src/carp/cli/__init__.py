"""The program `carp`: one module for each verb."""
