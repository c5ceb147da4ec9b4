-- In the cold listener: the pod that the activator named says that it does not have the model. Said as 503 (a client may
-- take 404 for final), and marked for the main listener, which may try once more.
FUNCTION_LACKS
function envoy_on_response(handle)
  local said = handle:streamInfo():dynamicMetadata():get("ACTIVATION")
  if not lacks(handle, said and said["lacks"]) then return end
  local headers = handle:headers()  -- an object of before a body was waited for is out of scope
  headers:remove("x-model-not-loaded")
  headers:replace("x-shoal-not-sent", "true")
  headers:replace("retry-after", "1")
  if (headers:get("content-type") or ""):find("^application/grpc") then
    headers:replace("grpc-status", "14")
    headers:replace("grpc-message", "REASON: MESSAGE")
    return
  end
  headers:replace(":status", "503")
  headers:replace("content-type", "application/json")
  local length = handle:body(true):setBytes('{"error": "MESSAGE", "reason": "REASON"}')
  handle:headers():replace("content-length", length)  -- the former object is out of scope once the body was waited for
end
