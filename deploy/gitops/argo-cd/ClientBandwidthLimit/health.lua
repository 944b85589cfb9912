-- The health of a ClientBandwidthLimit in Argo CD. Given: obj, the object as it is in the cluster.
-- Lua 5.1 without any library but the basic one, as Argo CD runs it by default.
--
--   Healthy      the nodes enforce this version of it, or its time is over as its author wrote
--   Progressing  the operator or a node has not taken this version up yet, no node is there to do it, or its packets
--                may leave past it and none was seen yet
--   Suspended    mode: Disabled
--   Degraded     it cannot be used as it is written, a node cannot enforce it, or its packets leave past it

local function health(status, message)
  return { status = status, message = message }
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "it is being deleted")
end

local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end
local ready = conditions["Ready"]

if ready == nil or (ready.status == "Unknown" and ready.reason == "Pending") then
  return health("Progressing", "the operator has not looked at it yet")
end
if obj.status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "the operator has not looked at the last edit yet")
end

if ready.status == "Unknown" then
  return health("Progressing", ready.message)
end
if ready.status == "True" then
  local conflicted = conditions["Conflicted"]
  if conflicted ~= nil and conflicted.status == "True" then
    return health("Healthy", ready.message .. "; " .. conflicted.message)
  end
  return health("Healthy", ready.message)
end

local ofReason = {
  Disabled = "Suspended",
  -- Nothing has failed, and no deployment should stop because a date has passed.
  Expired = "Healthy",
  Pending = "Progressing",
  -- A group of nodes may be scaled to none, or the agents may still be starting.
  NoNodeSelected = "Progressing",
}
return health(ofReason[ready.reason] or "Degraded", ready.message)
