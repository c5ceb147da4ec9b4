# Everything runs from here; 'make help' lists it. With SHOAL_KUBECONFIG=path every target uses that
# cluster (kind, cloud) instead of the local one that 'make cluster' builds and starts.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON := $(firstword $(shell command -v python3.11 python3))
VENV := .venv
VENV_READY := $(VENV)/.ready
CLUSTER := $(PYTHON) -m cluster

export KUBECACHEDIR := $(CURDIR)/.local/kubectl-cache
export KUBECONFIG := $(or $(SHOAL_KUBECONFIG),$(CURDIR)/.local/kubeconfig)
export PATH := $(CURDIR)/.local/bin:$(PATH)

##@ Cluster
NODES ?= 1
.PHONY: cluster cluster-down cluster-status tools
cluster: ## Start or repair the local cluster, with all images (NODES=3: of three nodes; TAKEOVER=1: from another checkout)
	@$(CLUSTER) up --nodes $(NODES)

cluster-down: ## Remove the local cluster and everything it left
	@$(CLUSTER) down

cluster-status: ## Say what of the cluster runs
	@$(CLUSTER) status

tools: ## Build only the programs (kubectl, helm, vegeta, etcdctl, versitygw) into .local/bin
	@$(CLUSTER) tools

##@ Images
.PHONY: images
images: ## Build all images that the demo uses; import them into the local cluster when it runs
	@$(CLUSTER) images

image-%: FORCE ## Build and import one: operator, agent, mlserver, envoy, versitygw, or a server that the demo does without (triton, torchserve, djl, mms, kserve, mlserver-openvino)
	@$(CLUSTER) images $*

.PHONY: FORCE
FORCE:

##@ Development
.PHONY: venv constraints crds test mutants lint demo bench-gateway
venv: $(VENV_READY) ## Make .venv with every extra, exactly as constraints.txt pins it

$(VENV_READY): pyproject.toml constraints.txt cluster/venv.sh
	PYTHON=$(PYTHON) bash cluster/venv.sh
	touch $@

constraints: ## Pin and hash anew what pyproject.toml and runtimes/mlserver ask for (UPGRADE=1: newest)
	PYTHON=$(PYTHON) bash cluster/constraints.sh $(if $(UPGRADE),--upgrade)

crds: venv ## Generate crds/ from the types in api/
	$(VENV)/bin/python -m shoal_api.generate crds/ --plugin runtimes/mlserver/plugin/shoal_mlserver/grammar.py

test: venv ## Run the tests
	bash tests/run.sh

N ?= 200
SEED ?= 1
mutants: venv ## Are the tests able to fail? N=200 SEED=1 small changes of the pure parts (ONLY=path, MINUTES=n, RESULTS=file)
	nice -n 10 $(VENV)/bin/python -m tests.mutants -n $(N) --seed $(SEED) $(if $(ONLY),--only $(ONLY)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(RESULTS),--results $(RESULTS))

lint: venv ## Check style, types and import contracts
	bash tests/lint.sh

demo: ## From a fresh machine to models that answer through the gateway (SERVERS=triton,torchserve,mms,djl: on those servers too)
	@$(PYTHON) -m demo.server_names "$(SERVERS)"
	@$(MAKE) --no-print-directory -j 2 cluster venv
	$(VENV)/bin/python -m demo --servers "$(SERVERS)"

bench-gateway: venv ## What the gateway adds to a request
	$(VENV)/bin/python -m benchmarks.gateway

MODELS ?= 10000
PODS ?= 6
bench-plan: venv ## Placement up to a million models, the gateway at a hundred thousand
	$(VENV)/bin/python -m benchmarks.plan
	$(VENV)/bin/python -m benchmarks.engine
	$(VENV)/bin/python -m benchmarks.gateway_scale

bench-density: venv ## 10,000 models on six pods beside six bare servers (MODELS=500 PODS=2: a quick try)
	$(VENV)/bin/python -m benchmarks.density --models $(MODELS) --pods $(PODS)

bench-overcommit: venv ## 1,000 models, memory for 200: hit rate, cold latency, one load for many
	$(VENV)/bin/python -m benchmarks.overcommit

bench-storage: venv ## Artifacts from a store 20 ms away: the agent's pipeline beside obstore alone and boto3
	$(VENV)/bin/python -m benchmarks.storage

bench-traffic: venv ## Three shapes of traffic over 1,000 models, beside one plain server
	$(VENV)/bin/python -m benchmarks.traffic

bench-servers: venv ## Every model server beside its bare self, and the documents' claims (ONLY=triton,mms PART=loads|requests|claims ROUNDS=3 MODELS=4)
	$(VENV)/bin/python -m benchmarks.model_servers $(if $(ONLY),--only $(ONLY)) $(if $(PART),--part $(PART)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(filter command environment,$(firstword $(origin MODELS))),--models $(MODELS))

bench-copies: venv ## 1,000 copies of one model, memory for 200, on DJL Serving and multi-model-server, in three shapes of traffic
	$(VENV)/bin/python -m benchmarks.copies

bench-docs: venv ## docs/benchmarks.md from the newest results
	$(VENV)/bin/python -m benchmarks.docs

.PHONY: help bench-docs bench-plan bench-density bench-overcommit bench-traffic bench-servers bench-copies
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z%-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
