"""Devices, processes and clusters that the stages run on."""
