"""The lab: sandbox, gateway and internet in network namespaces without an uplink. It sends nothing outside.

world.py reads what a world declares and its truth; namespaces.py makes the walls; topology.py the wires; internet.py
answers for every address; stage.py runs the main job in between.
"""
