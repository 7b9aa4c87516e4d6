-- Sends whole requests as they stand in the file named by BENCH_REQUESTS, each behind four bytes that tell its length, in turn.
local file = assert(io.open(os.getenv("BENCH_REQUESTS"), "rb"))
local text = file:read("*a")
file:close()

local requests, at, turn = {}, 1, 0
while at <= #text do
  local a, b, c, d = text:byte(at, at + 3)
  local length = ((a * 256 + b) * 256 + c) * 256 + d
  requests[#requests + 1] = text:sub(at + 4, at + 3 + length)
  at = at + 4 + length
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format("RESULT %f %f %f %d\n",
    (summary.requests - errors.status) / (summary.duration / 1e6), latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
