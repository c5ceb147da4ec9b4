"""PersistentVolumeClaims that models lie on: which an InferenceService's pods mount, and why others are not.

A claim in the pods' template that cannot be mounted leaves every new pod waiting, and with it all neighbours of the
model that names it. So one is mounted by a model's word only once it was seen to be there, bound and to be had by
several pods, and is taken out again where no pod starts with it; what the InferenceService itself declares counts for
more. Each change of the template replaces the pods, one by one: many changes become one, at a bounded rate, and what
nobody needs any more is no reason for any.
"""
