-- Runs after normalise and extract. Names the model that the gRPC message named, and, when nothing knows that model,
-- turns to the InferenceService's own scope, which tells an unknown model from an unknown InferenceService.
function envoy_on_request(handle)
  local headers = handle:headers()
  local fields = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.grpc_field_extraction")
  if fields and not headers:get("mm-model-id") then
    local named = fields["model_name"] or fields["name"]
    if named and named[1] then
      headers:replace("x-shoal-scope", "///" .. named[1])
      headers:replace("mm-model-id", named[1])
    end
  end
  -- Each of our routes carries this metadata: without it there is no route.
  if not handle:metadata():get("found") then
    local name = headers:get("x-shoal-scope"):match("^[^/]*/[^/]*/[^/]*/([^/]+)")
    headers:replace("x-shoal-unknown", name or "(no name given)")
    headers:replace("x-shoal-scope", "///!")
  end
end
