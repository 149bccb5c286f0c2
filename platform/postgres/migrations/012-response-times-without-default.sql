-- Response times of days without a partition are refused before they are written. A partition for them would keep rows of wrong
-- clocks, which would make the creation of the partition of their day fail.

drop table if exists platform.response_times_default;
