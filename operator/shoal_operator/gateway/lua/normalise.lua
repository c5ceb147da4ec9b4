-- Runs when no scope matched, or when a scope's routes did not: writes host, path and model in the one form that the
-- scopes are keyed by. Path-style requests, capitals in the host, <service>-predictor hosts, v1 verbs, queries.
function envoy_on_request(handle)
  local headers = handle:headers()
  local path, authority = headers:get(":path"), headers:get(":authority") or ""
  local host = authority:lower()
  local model = path:match("^/v[12]/models/([^/:?]+)")
  if not model then
    -- /<namespace>/<service>/v2/...; both are DNS labels
    local namespace, service, rest = path:match("^/([%w-]+)/([%w-]+)(/v[12].*)$")
    if namespace and (#rest == 3 or rest:find("^/v[12][/?]")) then
      host = service .. "." .. namespace
      path = rest
      headers:replace(":path", path)
      model = path:match("^/v[12]/models/([^/:?]+)")
    end
  end
  host = host:gsub("^([^.]+)%-predictor%.", "%1.")
  if host ~= authority then headers:replace(":authority", host) end
  if model then
    headers:replace("x-shoal-scope", "///" .. model)
  elseif not path:find("^/inference%.GRPCInferenceService/Model") then
    headers:replace("x-shoal-scope", "///!")
  end
end
