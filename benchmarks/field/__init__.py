"""Every model server of the field beside its bare self, and what the documents claim of its tuning.

How it is measured, and why so: on loopback, as processes. The real server, the real agent beside it, the operator's
real gateway room with a real Envoy before it, and a real S3 server; only placement is a script here, which wants every
model on the one pod that there is. Of what a pod on the cluster has on top (its network, its cgroups, placement) both
sides of a comparison would have the network and cgroups alike, and placement is what ``bench-density`` measures; while
on the cluster a run needs an image of each server and minutes of waiting for pods, and every other pod in the noise.

The bare server is another process of the same installation, started with the same command, environment and files, in
the same run. A plain script pulls the same artifacts from the same S3 server for it and posts the server's own load
call. Both have the plug-ins that lie in the image's place, so what these cost is on both sides.
"""
