-- In the cold listener: the activator has answered a gRPC call itself. A filter can end a call with an error only, so the
-- call goes to where it is answered, and the answer is put in place of that one.
local function told(handle)
  local said = handle:streamInfo():dynamicMetadata():get("ACTIVATION")
  return said and said["TOLD"]
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local answer = told(handle)
  if answer or headers:get("HEADER") then
    headers:remove("HEADER")  -- a client's own word
    if answer then headers:add("HEADER", "true") end
    handle:clearRouteCache()
  end
end

function envoy_on_response(handle)
  local answer = told(handle)
  if not answer then return end
  local bytes = answer:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end)
  handle:body(true):setBytes(bytes)
end
