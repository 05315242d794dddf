"""The lab: sandbox, gateway and internet in network namespaces without an uplink. It sends nothing outside.

world.py reads what a world declares, truth.py what is true there; namespaces.py makes the walls; topology.py the wires;
rules.py what is laid over them; internet.py answers for every address; confine.py and cgroup_bpf.py hold the agent;
stage.py runs the main job in between.
"""
