-- The SQL door: facteur.send_email, for whatever speaks SQL and has no client of Facteur's.
--
-- New functions only: no table is touched. The rules are those of src/email/, each in a function that names
-- the Rust function that it mirrors, in the same order and with the same words; tests/sql_door/table.rs and
-- tests/sql_door/random.rs send the same inputs through both and compare. tests/sql_door/broken.rs breaks each rule once
-- and sees the comparison fail (cargo test --test sql_door -- --ignored).
--
-- send_email runs with its owner's rights, so nothing of its caller's may change what a name or a text in it
-- means: search_path and standard_conforming_strings are fixed for it, and with it for what it calls. Nobody
-- but the owner may call the others.
SET LOCAL lock_timeout = '2s';

-- 1. How a field is refused: the field first, as email::InvalidEmail is written.
CREATE FUNCTION facteur.refuse(field text, problem text, hint text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  RAISE invalid_parameter_value USING MESSAGE = field || ' ' || problem, HINT = hint;
END
$$;

-- email::field::single_line: no control characters, line ends or direction overrides. NULL when it can stand.
CREATE FUNCTION facteur.line_problem(given text, most integer) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  found text := substring(given COLLATE "C" from '[\u0001-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]');
BEGIN
  IF found IS NOT NULL THEN
    RETURN format('has a character that is not allowed (U+%s at position %s): no control characters, line ends or direction overrides',
                  lpad(upper(to_hex(ascii(found))), 4, '0'), position(found IN given) - 1);
  ELSIF length(given) > most THEN
    RETURN format('has %s characters, the most is %s', length(given), most);
  END IF;
  RETURN NULL;
END
$$;

-- 2. Addresses.

-- email::address::check_local: a dot-atom without % and !, no =?.
CREATE FUNCTION facteur.is_local_part(given text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN octet_length(given) <= 64 AND position('=?' IN given) = 0
     AND given COLLATE "C" ~ '^[A-Za-z0-9#$&''*+/=?^_`{|}~-]+(\.[A-Za-z0-9#$&''*+/=?^_`{|}~-]+)*$';
END
$$;

-- The letters beyond ASCII that a label is taken with: those of the basic plane that IDNA (UTS #46) leaves as
-- they are, in scripts written from left to right. tests/sql_door/domains.rs::the_letters_are_those_that_idna_leaves_as_they_are
-- makes this list and holds it against the library's. The second is of those that may come first.
CREATE FUNCTION facteur.letters() RETURNS int4multirange
LANGUAGE sql IMMUTABLE AS $$
  SELECT '{
    [161,168),[169,170),[171,173),[174,175),[176,178),[182,184),[187,188),[191,192),[215,216),[223,256),[257,258),[259,260),[261,262),[263,264),
    [265,266),[267,268),[269,270),[271,272),[273,274),[275,276),[277,278),[279,280),[281,282),[283,284),[285,286),[287,288),[289,290),[291,292),
    [293,294),[295,296),[297,298),[299,300),[301,302),[303,304),[305,306),[309,310),[311,313),[314,315),[316,317),[318,319),[322,323),[324,325),
    [326,327),[328,329),[331,332),[333,334),[335,336),[337,338),[339,340),[341,342),[343,344),[345,346),[347,348),[349,350),[351,352),[353,354),
    [355,356),[357,358),[359,360),[361,362),[363,364),[365,366),[367,368),[369,370),[371,372),[373,374),[375,376),[378,379),[380,381),[382,383),
    [384,385),[387,388),[389,390),[392,393),[396,398),[402,403),[405,406),[409,412),[414,415),[417,418),[419,420),[421,422),[424,425),[426,428),
    [429,430),[432,433),[436,437),[438,439),[441,444),[445,452),[462,463),[464,465),[466,467),[468,469),[470,471),[472,473),[474,475),[476,478),
    [479,480),[481,482),[483,484),[485,486),[487,488),[489,490),[491,492),[493,494),[495,497),[501,502),[505,506),[507,508),[509,510),[511,512),
    [513,514),[515,516),[517,518),[519,520),[521,522),[523,524),[525,526),[527,528),[529,530),[531,532),[533,534),[535,536),[537,538),[539,540),
    [541,542),[543,544),[545,546),[547,548),[549,550),[551,552),[553,554),[555,556),[557,558),[559,560),[561,562),[563,570),[572,573),[575,577),
    [578,579),[583,584),[585,586),[587,588),[589,590),[591,688),[697,728),[734,736),[741,832),[834,835),[838,847),[848,880),[881,882),[883,884),
    [885,886),[887,888),[891,894),[912,913),[940,975),[983,984),[985,986),[987,988),[989,990),[991,992),[993,994),[995,996),[997,998),[999,1000),
    [1001,1002),[1003,1004),[1005,1006),[1007,1008),[1011,1012),[1014,1015),[1016,1017),[1019,1021),[1072,1120),[1121,1122),[1123,1124),[1125,1126),
    [1127,1128),[1129,1130),[1131,1132),[1133,1134),[1135,1136),[1137,1138),[1139,1140),[1141,1142),[1143,1144),[1145,1146),[1147,1148),[1149,1150),
    [1151,1152),[1153,1162),[1163,1164),[1165,1166),[1167,1168),[1169,1170),[1171,1172),[1173,1174),[1175,1176),[1177,1178),[1179,1180),[1181,1182),
    [1183,1184),[1185,1186),[1187,1188),[1189,1190),[1191,1192),[1193,1194),[1195,1196),[1197,1198),[1199,1200),[1201,1202),[1203,1204),[1205,1206),
    [1207,1208),[1209,1210),[1211,1212),[1213,1214),[1215,1216),[1218,1219),[1220,1221),[1222,1223),[1224,1225),[1226,1227),[1228,1229),[1230,1232),
    [1233,1234),[1235,1236),[1237,1238),[1239,1240),[1241,1242),[1243,1244),[1245,1246),[1247,1248),[1249,1250),[1251,1252),[1253,1254),[1255,1256),
    [1257,1258),[1259,1260),[1261,1262),[1263,1264),[1265,1266),[1267,1268),[1269,1270),[1271,1272),[1273,1274),[1275,1276),[1277,1278),[1279,1280),
    [1281,1282),[1283,1284),[1285,1286),[1287,1288),[1289,1290),[1291,1292),[1293,1294),[1295,1296),[1297,1298),[1299,1300),[1301,1302),[1303,1304),
    [1305,1306),[1307,1308),[1309,1310),[1311,1312),[1313,1314),[1315,1316),[1317,1318),[1319,1320),[1321,1322),[1323,1324),[1325,1326),[1327,1328),
    [1369,1415),[1416,1419),[1421,1424),[1425,1470),[1471,1472),[1473,1475),[1476,1478),[1479,1482),[1542,1544),[1545,1547),[1548,1549),[1550,1563),
    [1611,1632),[1642,1643),[1648,1649),[1750,1757),[1758,1765),[1767,1774),[1776,1786),[1809,1810),[1840,1867),[1958,1969),[2027,2036),[2038,2042),
    [2045,2046),[2070,2074),[2075,2084),[2085,2088),[2089,2094),[2137,2140),[2199,2208),[2250,2274),[2275,2392),[2400,2436),[2437,2445),[2447,2449),
    [2451,2473),[2474,2481),[2482,2483),[2486,2490),[2492,2501),[2503,2505),[2507,2511),[2519,2520),[2528,2532),[2534,2559),[2561,2564),[2565,2571),
    [2575,2577),[2579,2601),[2602,2609),[2610,2611),[2613,2614),[2616,2618),[2620,2621),[2622,2627),[2631,2633),[2635,2638),[2641,2642),[2652,2653),
    [2662,2679),[2689,2692),[2693,2702),[2703,2706),[2707,2729),[2730,2737),[2738,2740),[2741,2746),[2748,2758),[2759,2762),[2763,2766),[2768,2769),
    [2784,2788),[2790,2802),[2809,2816),[2817,2820),[2821,2829),[2831,2833),[2835,2857),[2858,2865),[2866,2868),[2869,2874),[2876,2885),[2887,2889),
    [2891,2894),[2899,2904),[2911,2916),[2918,2936),[2946,2948),[2949,2955),[2958,2961),[2962,2966),[2969,2971),[2972,2973),[2974,2976),[2979,2981),
    [2984,2987),[2990,3002),[3006,3011),[3014,3017),[3018,3022),[3024,3025),[3031,3032),[3046,3067),[3072,3085),[3086,3089),[3090,3113),[3114,3130),
    [3132,3141),[3142,3145),[3146,3150),[3157,3159),[3160,3163),[3164,3166),[3168,3172),[3174,3184),[3191,3213),[3214,3217),[3218,3241),[3242,3252),
    [3253,3258),[3260,3269),[3270,3273),[3274,3278),[3285,3287),[3292,3295),[3296,3300),[3302,3312),[3313,3316),[3328,3341),[3342,3345),[3346,3397),
    [3398,3401),[3402,3408),[3412,3428),[3430,3456),[3457,3460),[3461,3479),[3482,3506),[3507,3516),[3517,3518),[3520,3527),[3530,3531),[3535,3541),
    [3542,3543),[3544,3552),[3558,3568),[3570,3573),[3585,3635),[3636,3643),[3647,3676),[3713,3715),[3716,3717),[3718,3723),[3724,3748),[3749,3750),
    [3751,3763),[3764,3774),[3776,3781),[3782,3783),[3784,3791),[3792,3802),[3806,3808),[3840,3852),[3853,3907),[3908,3912),[3913,3917),[3918,3922),
    [3923,3927),[3928,3932),[3933,3945),[3946,3949),[3953,3955),[3956,3957),[3962,3969),[3970,3987),[3988,3992),[3993,3997),[3998,4002),[4003,4007),
    [4008,4012),[4013,4025),[4026,4029),[4030,4045),[4046,4059),[4096,4256),[4304,4348),[4349,4447),[4449,4681),[4682,4686),[4688,4695),[4696,4697),
    [4698,4702),[4704,4745),[4746,4750),[4752,4785),[4786,4790),[4792,4799),[4800,4801),[4802,4806),[4808,4823),[4824,4881),[4882,4886),[4888,4955),
    [4957,4989),[4992,5018),[5024,5110),[5120,5760),[5761,5789),[5792,5881),[5888,5910),[5919,5943),[5952,5972),[5984,5997),[5998,6001),[6002,6004),
    [6016,6068),[6070,6110),[6112,6122),[6128,6138),[6144,6155),[6160,6170),[6176,6265),[6272,6315),[6320,6390),[6400,6431),[6432,6444),[6448,6460),
    [6464,6465),[6468,6510),[6512,6517),[6528,6572),[6576,6602),[6608,6619),[6622,6684),[6686,6751),[6752,6781),[6783,6794),[6800,6810),[6816,6830),
    [6832,6897),[6912,6989),[6990,7156),[7164,7224),[7227,7242),[7245,7296),[7306,7307),[7360,7368),[7376,7419),[7424,7468),[7471,7472),[7483,7484),
    [7502,7503),[7531,7544),[7545,7579),[7616,7680),[7681,7682),[7683,7684),[7685,7686),[7687,7688),[7689,7690),[7691,7692),[7693,7694),[7695,7696),
    [7697,7698),[7699,7700),[7701,7702),[7703,7704),[7705,7706),[7707,7708),[7709,7710),[7711,7712),[7713,7714),[7715,7716),[7717,7718),[7719,7720),
    [7721,7722),[7723,7724),[7725,7726),[7727,7728),[7729,7730),[7731,7732),[7733,7734),[7735,7736),[7737,7738),[7739,7740),[7741,7742),[7743,7744),
    [7745,7746),[7747,7748),[7749,7750),[7751,7752),[7753,7754),[7755,7756),[7757,7758),[7759,7760),[7761,7762),[7763,7764),[7765,7766),[7767,7768),
    [7769,7770),[7771,7772),[7773,7774),[7775,7776),[7777,7778),[7779,7780),[7781,7782),[7783,7784),[7785,7786),[7787,7788),[7789,7790),[7791,7792),
    [7793,7794),[7795,7796),[7797,7798),[7799,7800),[7801,7802),[7803,7804),[7805,7806),[7807,7808),[7809,7810),[7811,7812),[7813,7814),[7815,7816),
    [7817,7818),[7819,7820),[7821,7822),[7823,7824),[7825,7826),[7827,7828),[7829,7834),[7836,7838),[7839,7840),[7841,7842),[7843,7844),[7845,7846),
    [7847,7848),[7849,7850),[7851,7852),[7853,7854),[7855,7856),[7857,7858),[7859,7860),[7861,7862),[7863,7864),[7865,7866),[7867,7868),[7869,7870),
    [7871,7872),[7873,7874),[7875,7876),[7877,7878),[7879,7880),[7881,7882),[7883,7884),[7885,7886),[7887,7888),[7889,7890),[7891,7892),[7893,7894),
    [7895,7896),[7897,7898),[7899,7900),[7901,7902),[7903,7904),[7905,7906),[7907,7908),[7909,7910),[7911,7912),[7913,7914),[7915,7916),[7917,7918),
    [7919,7920),[7921,7922),[7923,7924),[7925,7926),[7927,7928),[7929,7930),[7931,7932),[7933,7934),[7935,7944),[7952,7958),[7968,7976),[7984,7992),
    [8000,8006),[8016,8024),[8032,8040),[8048,8049),[8050,8051),[8052,8053),[8054,8055),[8056,8057),[8058,8059),[8060,8061),[8112,8114),[8118,8119),
    [8134,8135),[8144,8147),[8150,8152),[8160,8163),[8164,8168),[8182,8183),[8208,8209),[8210,8215),[8216,8228),[8231,8232),[8240,8243),[8245,8246),
    [8248,8252),[8253,8254),[8255,8263),[8266,8279),[8280,8287),[8335,8336),[8352,8360),[8361,8389),[8400,8433),[8452,8453),[8456,8457),[8468,8469),
    [8471,8473),[8478,8480),[8483,8484),[8485,8486),[8487,8488),[8489,8490),[8494,8495),[8506,8507),[8513,8517),[8522,8528),[8576,8579),[8580,8585),
    [8586,8588),[8592,8748),[8750,8751),[8753,9001),[9003,9258),[9280,9291),[9451,10764),[10765,10868),[10871,10972),[10973,11124),[11126,11264),
    [11312,11360),[11361,11362),[11365,11367),[11368,11369),[11370,11371),[11372,11373),[11377,11378),[11379,11381),[11382,11388),[11393,11394),
    [11395,11396),[11397,11398),[11399,11400),[11401,11402),[11403,11404),[11405,11406),[11407,11408),[11409,11410),[11411,11412),[11413,11414),
    [11415,11416),[11417,11418),[11419,11420),[11421,11422),[11423,11424),[11425,11426),[11427,11428),[11429,11430),[11431,11432),[11433,11434),
    [11435,11436),[11437,11438),[11439,11440),[11441,11442),[11443,11444),[11445,11446),[11447,11448),[11449,11450),[11451,11452),[11453,11454),
    [11455,11456),[11457,11458),[11459,11460),[11461,11462),[11463,11464),[11465,11466),[11467,11468),[11469,11470),[11471,11472),[11473,11474),
    [11475,11476),[11477,11478),[11479,11480),[11481,11482),[11483,11484),[11485,11486),[11487,11488),[11489,11490),[11491,11499),[11500,11501),
    [11502,11506),[11507,11508),[11513,11558),[11559,11560),[11565,11566),[11568,11624),[11632,11633),[11647,11671),[11680,11687),[11688,11695),
    [11696,11703),[11704,11711),[11712,11719),[11720,11727),[11728,11735),[11736,11743),[11744,11870),[11872,11876),[11904,11930),[11931,11935),
    [11936,12019),[12289,12290),[12291,12342),[12343,12344),[12347,12352),[12353,12439),[12441,12443),[12445,12447),[12448,12543),[12549,12592),
    [12688,12690),[12704,12774),[12784,12800),[12872,12880),[12927,12928),[13312,42125),[42128,42183),[42192,42540),[42561,42562),[42563,42564),
    [42565,42566),[42567,42568),[42569,42570),[42571,42572),[42573,42574),[42575,42576),[42577,42578),[42579,42580),[42581,42582),[42583,42584),
    [42585,42586),[42587,42588),[42589,42590),[42591,42592),[42593,42594),[42595,42596),[42597,42598),[42599,42600),[42601,42602),[42603,42604),
    [42605,42624),[42625,42626),[42627,42628),[42629,42630),[42631,42632),[42633,42634),[42635,42636),[42637,42638),[42639,42640),[42641,42642),
    [42643,42644),[42645,42646),[42647,42648),[42649,42650),[42651,42652),[42654,42744),[42752,42786),[42787,42788),[42789,42790),[42791,42792),
    [42793,42794),[42795,42796),[42797,42798),[42799,42802),[42803,42804),[42805,42806),[42807,42808),[42809,42810),[42811,42812),[42813,42814),
    [42815,42816),[42817,42818),[42819,42820),[42821,42822),[42823,42824),[42825,42826),[42827,42828),[42829,42830),[42831,42832),[42833,42834),
    [42835,42836),[42837,42838),[42839,42840),[42841,42842),[42843,42844),[42845,42846),[42847,42848),[42849,42850),[42851,42852),[42853,42854),
    [42855,42856),[42857,42858),[42859,42860),[42861,42862),[42863,42864),[42865,42873),[42874,42875),[42876,42877),[42879,42880),[42881,42882),
    [42883,42884),[42885,42886),[42887,42891),[42892,42893),[42894,42896),[42897,42898),[42899,42902),[42903,42904),[42905,42906),[42907,42908),
    [42909,42910),[42911,42912),[42913,42914),[42915,42916),[42917,42918),[42919,42920),[42921,42922),[42927,42928),[42933,42934),[42935,42936),
    [42937,42938),[42939,42940),[42941,42942),[42943,42944),[42945,42946),[42947,42948),[42952,42953),[42954,42955),[42957,42958),[42959,42960),
    [42961,42962),[42963,42964),[42965,42966),[42967,42968),[42969,42970),[42971,42972),[42998,43000),[43002,43053),[43056,43066),[43072,43128),
    [43136,43206),[43214,43226),[43232,43348),[43359,43389),[43392,43470),[43471,43482),[43486,43519),[43520,43575),[43584,43598),[43600,43610),
    [43612,43715),[43739,43767),[43777,43783),[43785,43791),[43793,43799),[43808,43815),[43816,43823),[43824,43868),[43872,43881),[43882,43884),
    [43968,44014),[44016,44026),[44032,55204),[55216,55239),[55243,55292),[64014,64016),[64017,64018),[64019,64021),[64031,64032),[64033,64034),
    [64035,64037),[64039,64042),[64286,64287),[64451,64467),[64830,64848),[64912,64914),[64968,64976),[65021,65024),[65056,65072),[65093,65095)
  }'::int4multirange
$$;

CREATE FUNCTION facteur.first_letters() RETURNS int4multirange
LANGUAGE sql IMMUTABLE AS $$
  SELECT facteur.letters() - '{
    [768,832),[834,835),[838,847),[848,880),[1155,1162),[1425,1470),[1471,1472),[1473,1475),[1476,1478),[1479,1482),[1552,1563),[1611,1632),[1648,1649),
    [1750,1757),[1759,1765),[1767,1769),[1770,1774),[1809,1810),[1840,1867),[1958,1969),[2027,2036),[2045,2046),[2070,2074),[2075,2084),[2085,2088),
    [2089,2094),[2137,2140),[2199,2208),[2250,2274),[2275,2308),[2362,2365),[2366,2384),[2385,2392),[2402,2404),[2433,2436),[2492,2493),[2494,2501),
    [2503,2505),[2507,2510),[2519,2520),[2530,2532),[2558,2559),[2561,2564),[2620,2621),[2622,2627),[2631,2633),[2635,2638),[2641,2642),[2672,2674),
    [2677,2678),[2689,2692),[2748,2749),[2750,2758),[2759,2762),[2763,2766),[2786,2788),[2810,2816),[2817,2820),[2876,2877),[2878,2885),[2887,2889),
    [2891,2894),[2899,2904),[2914,2916),[2946,2947),[3006,3011),[3014,3017),[3018,3022),[3031,3032),[3072,3077),[3132,3133),[3134,3141),[3142,3145),
    [3146,3150),[3157,3159),[3170,3172),[3201,3204),[3260,3261),[3262,3269),[3270,3273),[3274,3278),[3285,3287),[3298,3300),[3315,3316),[3328,3332),
    [3387,3389),[3390,3397),[3398,3401),[3402,3406),[3415,3416),[3426,3428),[3457,3460),[3530,3531),[3535,3541),[3542,3543),[3544,3552),[3570,3572),
    [3633,3634),[3636,3643),[3655,3663),[3761,3762),[3764,3773),[3784,3791),[3864,3866),[3893,3894),[3895,3896),[3897,3898),[3902,3904),[3953,3955),
    [3956,3957),[3962,3969),[3970,3973),[3974,3976),[3981,3987),[3988,3992),[3993,3997),[3998,4002),[4003,4007),[4008,4012),[4013,4025),[4026,4029),
    [4038,4039),[4139,4159),[4182,4186),[4190,4193),[4194,4197),[4199,4206),[4209,4213),[4226,4238),[4239,4240),[4250,4254),[4957,4960),[5906,5910),
    [5938,5941),[5970,5972),[6002,6004),[6070,6100),[6109,6110),[6277,6279),[6313,6314),[6432,6444),[6448,6460),[6679,6684),[6741,6751),[6752,6781),
    [6783,6784),[6832,6897),[6912,6917),[6964,6981),[7019,7028),[7040,7043),[7073,7086),[7142,7156),[7204,7224),[7376,7379),[7380,7401),[7405,7406),
    [7412,7413),[7415,7418),[7616,7680),[8400,8433),[11503,11506),[11647,11648),[11744,11776),[12330,12336),[12441,12443),[42607,42611),[42612,42622),
    [42654,42656),[42736,42738),[43010,43011),[43014,43015),[43019,43020),[43043,43048),[43052,43053),[43136,43138),[43188,43206),[43232,43250),
    [43263,43264),[43302,43310),[43335,43348),[43392,43396),[43443,43457),[43493,43494),[43561,43575),[43587,43588),[43596,43598),[43643,43646),
    [43696,43697),[43698,43701),[43703,43705),[43710,43712),[43713,43714),[43755,43760),[43765,43767),[44003,44011),[44012,44014),[64286,64287),
    [65056,65072)
  }'::int4multirange
$$;

-- RFC 3492 §6.3.
CREATE FUNCTION facteur.punycode(label text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  digits  text    := 'abcdefghijklmnopqrstuvwxyz0123456789';
  points  integer[] := ARRAY (SELECT ascii(substr(label, i, 1)) FROM generate_series(1, length(label)) i);
  written text    := regexp_replace(label COLLATE "C", '[^\u0001-\u007f]', '', 'g');
  basic   integer := length(written);
  handled integer := basic;
  next    integer;
  n       integer := 128;
  delta   bigint  := 0;
  bias    integer := 72;
  point   integer;
  q       bigint;
  k       integer;
  t       integer;
BEGIN
  IF basic > 0 THEN
    written := written || '-';
  END IF;
  WHILE handled < cardinality(points) LOOP
    next := (SELECT min(p) FROM unnest(points) p WHERE p >= n);
    delta := delta + (next - n)::bigint * (handled + 1);
    n := next;
    FOREACH point IN ARRAY points LOOP
      IF point < n THEN
        delta := delta + 1;
      ELSIF point = n THEN
        q := delta;
        k := 36;
        LOOP
          t := least(26, greatest(1, k - bias));
          EXIT WHEN q < t;
          written := written || substr(digits, (t + (q - t) % (36 - t))::integer + 1, 1);
          q := (q - t) / (36 - t);
          k := k + 36;
        END LOOP;
        written := written || substr(digits, q::integer + 1, 1);
        bias := facteur.punycode_bias(delta, handled + 1, handled = basic);
        delta := 0;
        handled := handled + 1;
      END IF;
    END LOOP;
    delta := delta + 1;
    n := n + 1;
  END LOOP;
  RETURN written;
END
$$;

-- RFC 3492 §6.1.
CREATE FUNCTION facteur.punycode_bias(delta bigint, points integer, first boolean) RETURNS integer
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  left_over bigint  := CASE WHEN first THEN delta / 700 ELSE delta / 2 END;
  k         integer := 0;
BEGIN
  left_over := left_over + left_over / points;
  WHILE left_over > 455 LOOP
    left_over := left_over / 35;
    k := k + 36;
  END LOOP;
  RETURN k + (36 * left_over / (left_over + 38))::integer;
END
$$;

-- RFC 3492 §6.2. NULL when it is none, or has a letter that is not one of ours.
CREATE FUNCTION facteur.from_punycode(coded text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  digits text    := 'abcdefghijklmnopqrstuvwxyz0123456789';
  cut    integer := length(coded) - position('-' IN reverse(coded));
  label  text    := CASE WHEN coded LIKE '%-%' THEN left(coded, cut) ELSE '' END;
  at     integer := CASE WHEN coded LIKE '%-%' THEN cut + 2 ELSE 1 END;
  n      bigint  := 128;
  i      bigint  := 0;
  bias   integer := 72;
  before bigint;
  weight bigint;
  digit  integer;
  k      integer;
  t      integer;
BEGIN
  WHILE at <= length(coded) LOOP
    before := i;
    weight := 1;
    k := 36;
    LOOP
      digit := position(substr(coded, at, 1) IN digits) - 1;
      IF at > length(coded) OR digit < 0 THEN
        RETURN NULL;
      END IF;
      at := at + 1;
      i := i + digit * weight;
      t := least(26, greatest(1, k - bias));
      EXIT WHEN digit < t;
      weight := weight * (36 - t);
      k := k + 36;
      IF weight > 1000000000 OR i > 1000000000 THEN
        RETURN NULL;
      END IF;
    END LOOP;
    bias := facteur.punycode_bias(i - before, length(label) + 1, before = 0);
    n := n + i / (length(label) + 1);
    i := i % (length(label) + 1);
    IF n > 65535 OR NOT facteur.letters() @> n::integer THEN
      RETURN NULL;
    END IF;
    label := overlay(label PLACING chr(n::integer) FROM i::integer + 1 FOR 0);
    i := i + 1;
  END LOOP;
  RETURN label;
END
$$;

-- One label for email::address::to_a_labels. NULL when it is refused. Stricter than the library's for what is not ASCII:
-- it must be written as IDNA writes it already, with the letters above.
CREATE FUNCTION facteur.a_label(given text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  label text := lower(given COLLATE "C");
  wide  text;
  point integer;
BEGIN
  IF label ~ '^[\u0001-\u007f]*$' AND label NOT LIKE 'xn--%' THEN
    -- Letters, digits, inner hyphens (is_ldh); two hyphens in the third place are for A-labels.
    RETURN CASE WHEN label ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$' AND label !~ '^..--' THEN label END;
  END IF;
  wide := CASE WHEN label LIKE 'xn--%' THEN facteur.from_punycode(substr(label, 5)) ELSE label END;
  IF wide IS NULL OR length(wide) > 63 OR wide !~ '^[-a-z0-9\u0080-\uffff]+$' OR wide !~ '[^\u0001-\u007f]'
     OR wide ~ '^-|-$|^..--' OR NOT normalize(wide, NFC) = wide
     OR ascii(wide) > 127 AND NOT facteur.first_letters() @> ascii(wide) THEN
    RETURN NULL;
  END IF;
  FOR i IN 1 .. length(wide) LOOP
    point := ascii(substr(wide, i, 1));
    IF point > 127 AND NOT facteur.letters() @> point THEN
      RETURN NULL;
    END IF;
  END LOOP;
  wide := 'xn--' || facteur.punycode(wide);
  -- What was given as an A-label must be the one way to write it.
  RETURN CASE WHEN length(wide) <= 63 AND (label NOT LIKE 'xn--%' OR wide = label) THEN wide END;
END
$$;

-- email::address::to_a_labels. NULL when it is refused.
CREATE FUNCTION facteur.a_labels(given text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  labels text[] := string_to_array(given, '.');
  label  text;
  kept   text;
BEGIN
  -- The longest name in octets; nothing that is longer in characters gets shorter.
  IF given = '' OR length(given) > 253 THEN
    RETURN NULL;
  END IF;
  FOREACH label IN ARRAY labels LOOP
    label := facteur.a_label(label);
    IF label IS NULL THEN
      RETURN NULL;
    END IF;
    kept := CASE WHEN kept IS NULL THEN label ELSE kept || '.' || label END;
  END LOOP;
  -- The last one may not be a number.
  RETURN CASE WHEN label !~ '^[0-9]+$' AND length(kept) <= 253 AND (cardinality(labels) > 1 OR kept = 'localhost') THEN kept END;
END
$$;

-- email::Address::from_str.
CREATE FUNCTION facteur.address(field text, given text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  hint   text    := 'Accepted: ada@example.com or Ada Lovelace <ada@example.com>, one address in each text.';
  at     integer := position('@' IN given);
  domain text    := substr(given, at + 1);
  kept   text;
BEGIN
  IF given = '' THEN
    PERFORM facteur.refuse(field, 'is empty; an address such as ada@example.com is expected', hint);
  ELSIF at = 0 OR position('@' IN domain) > 0 THEN
    PERFORM facteur.refuse(field, 'must have exactly one @, as in ada@example.com', hint);
  ELSIF NOT facteur.is_local_part(left(given, at - 1)) THEN
    PERFORM facteur.refuse(field, 'has a local part (before the @) that is not accepted: 1 to 64 ASCII letters, digits and '
      '.!#$&''*+-/=?^_`{|}~ without ! and %, no dot at an end or twice in a row', hint);
  END IF;
  kept := left(given, at) || facteur.a_labels(domain);
  IF kept IS NULL THEN
    IF domain ~ '[^\u0001-\u007f]|(^|\.)[xX][nN]--' THEN
      hint := 'A domain beyond ASCII is taken here in lower case, composed (NFC), written from left to right, in the basic plane; '
              'the other doors take the rest.';
    END IF;
    PERFORM facteur.refuse(field, 'has a domain (after the @) that is not accepted: a host name with a dot, such as example.com, '
      'with labels of at most 63 letters, digits and inner hyphens', hint);
  ELSIF octet_length(kept) > 254 THEN
    PERFORM facteur.refuse(field, 'is longer than 254 octets', hint);
  END IF;
  RETURN kept;
END
$$;

-- email::Mailbox::from_str, with email::address::unquote: {"name"?, "address"}.
CREATE FUNCTION facteur.mailbox(field text, given text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  hint     text    := 'Accepted: ada@example.com or Ada Lovelace <ada@example.com>, one address in each text.';
  open     integer := position('<' IN given);
  name     text    := btrim(left(given, open - 1), ' ');
  problem  text;
BEGIN
  IF open = 0 THEN
    RETURN jsonb_build_object('address', facteur.address(field, given));
  ELSIF right(given, 1) <> '>' OR name ~ '^"' AND name !~ '^"([^"\\]|\\.)*"$' THEN
    PERFORM facteur.refuse(field, 'must be ada@example.com or Ada Lovelace <ada@example.com>', hint);
  ELSIF name ~ '^"' THEN
    name := regexp_replace(substr(name, 2, length(name) - 2), '\\(.)', '\1', 'g');
  END IF;
  problem := facteur.line_problem(name, 200);
  IF problem IS NOT NULL THEN
    PERFORM facteur.refuse(field, 'has a display name that ' || problem, hint);
  END IF;
  given := facteur.address(field, substr(given, open + 1, length(given) - open - 1));
  RETURN CASE name WHEN '' THEN jsonb_build_object('address', given) ELSE jsonb_build_object('name', name, 'address', given) END;
END
$$;

-- email::check::mailboxes.
CREATE FUNCTION facteur.mailboxes(field text, given text[]) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  count integer := cardinality(given);
  kept  jsonb   := '[]';
BEGIN
  IF count > 50 THEN
    PERFORM facteur.refuse(field, format('has %s entries, the most is 50', count), 'Send several e-mails.');
  END IF;
  FOR i IN 1 .. count LOOP
    kept := kept || facteur.mailbox(CASE count WHEN 1 THEN field ELSE format('%s[%s]', field, i - 1) END, given[i]);
  END LOOP;
  RETURN kept;
END
$$;

-- 3. Headers.

-- email::Header::check.
CREATE FUNCTION facteur.check_header(field text, name text, given text) RETURNS void
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  hint    text := 'Accepted: names such as X-Campaign or List-Unsubscribe, values of one line and at most 4000 characters.';
  folded  text := lower(name COLLATE "C");
  problem text := facteur.line_problem(given, 4000);
BEGIN
  IF name COLLATE "C" !~ '^[A-Za-z0-9_-]{1,76}$' THEN
    PERFORM facteur.refuse(field, 'must have a name of 1 to 76 ASCII letters, digits and hyphens', hint);
  ELSIF folded = ANY (ARRAY['from', 'to', 'cc', 'bcc', 'sender', 'date', 'subject', 'message-id', 'mime-version', 'reply-to',
                           'dkim-signature', 'received', 'return-path']) OR folded LIKE 'content-%' THEN
    PERFORM facteur.refuse(field, 'may not be set by hand: Facteur writes it', hint);
  ELSIF problem IS NOT NULL THEN
    PERFORM facteur.refuse(field, 'has a value that ' || problem, hint);
  END IF;
END
$$;

-- email::check::check_headers, of [{"name", "value"}].
CREATE FUNCTION facteur.check_headers(headers jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  count integer := jsonb_array_length(headers);
  bytes bigint;
BEGIN
  IF count > 50 THEN
    PERFORM facteur.refuse('headers', format('has %s entries, the most is 50', count), 'Leave some out.');
  END IF;
  bytes := (SELECT sum(octet_length(h ->> 'name') + octet_length(h ->> 'value')) FROM jsonb_array_elements(headers) h);
  IF bytes > 16000 THEN
    PERFORM facteur.refuse('headers', format('is %s bytes long, the most is 16000', bytes), 'Leave some out.');
  END IF;
  FOR i IN 0 .. count - 1 LOOP
    PERFORM facteur.check_header(format('headers[%s]', i), headers -> i ->> 'name', headers -> i ->> 'value');
  END LOOP;
END
$$;

-- 4. Attachments.

-- email::Attachment::check, of {"filename", "content_type", "content_id"?}: the same with the base name alone.
CREATE FUNCTION facteur.checked_file(field text, file jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  hint    text := 'Accepted: {"filename": "invoice.pdf", "content_type": "application/pdf", "content": "<base64>", "content_id": "logo"}; '
                  'content_type and content_id may be left out.';
  name    text := regexp_replace(file ->> 'filename', '^.*[/\\]', '');
  type    text := file ->> 'content_type';
  problem text := facteur.line_problem(name, 255);
BEGIN
  IF name IN ('', '.', '..') THEN
    PERFORM facteur.refuse(field, 'needs a file name', hint);
  ELSIF problem IS NOT NULL THEN
    PERFORM facteur.refuse(field, 'has a file name that ' || problem, hint);
  ELSIF NOT facteur.is_content_type(type) OR facteur.line_problem(type, 255) IS NOT NULL THEN
    PERFORM facteur.refuse(field, 'has a content type that is not one (application/pdf, image/png, …)', hint);
  ELSIF (file ->> 'content_id') COLLATE "C" !~ '^[A-Za-z0-9._@-]{1,127}$' THEN
    PERFORM facteur.refuse(field, 'has a content id that is not 1 to 127 ASCII letters, digits and . _ - @', hint);
  END IF;
  RETURN file || jsonb_build_object('filename', name);
END
$$;

-- What lettre's ContentType::parse takes (the crate mime), where something is behind the slash: a name, a slash, a name, parameters.
CREATE FUNCTION facteur.is_content_type(given text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  token  text := '[A-Za-z0-9!#$%&''*+.^_`|~-]';
  quoted text := '"[^\u0001-\u001f\u007f][^"\u0001-\u001f\u007f]*" *';
BEGIN
  RETURN given COLLATE "C" ~ format(
    '^%1$s+/%1$s+(;( *%1$s+=(%1$s+|%2$s);)* *(%1$s+=(%1$s*|%2$s))?)?$', token, quoted);
END
$$;

CREATE FUNCTION facteur.file_content(field text, coded text) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN decode(coded, 'base64');
EXCEPTION WHEN invalid_parameter_value THEN
  PERFORM facteur.refuse(field, 'has a content that is not base64', 'In SQL: encode(bytes, ''base64'').');
END
$$;

-- 5. Options: of the right kind each, before anything is checked.

CREATE FUNCTION facteur.option_text(options jsonb, name text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF jsonb_typeof(options -> name) NOT IN ('string', 'null') THEN
    PERFORM facteur.refuse(name, 'must be a text', 'It is an option: {"' || name || '": "…"}.');
  END IF;
  RETURN options ->> name;
END
$$;

-- One text, or several.
CREATE FUNCTION facteur.option_texts(options jsonb, name text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  given jsonb := coalesce(options -> name, 'null');
BEGIN
  CASE jsonb_typeof(given)
    WHEN 'null' THEN RETURN '{}';
    WHEN 'string' THEN RETURN ARRAY[given #>> '{}'];
    WHEN 'array' THEN
      IF NOT EXISTS (SELECT FROM jsonb_array_elements(given) e WHERE jsonb_typeof(e) <> 'string') THEN
        RETURN ARRAY (SELECT e FROM jsonb_array_elements_text(given) WITH ORDINALITY AS t (e, n) ORDER BY n);
      END IF;
    ELSE NULL;
  END CASE;
  PERFORM facteur.refuse(name, 'must be a text or an array of texts', 'It is an option: {"' || name || '": ["…", "…"]}.');
END
$$;

-- A moment, whatever DateStyle and TimeZone are: as jsonb writes it, and RFC 3339.
CREATE FUNCTION facteur.option_time(options jsonb, name text) RETURNS timestamptz
LANGUAGE plpgsql STABLE AS $$
DECLARE
  given text := options ->> name;
  whole text := '^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)$';
BEGIN
  IF given IS NULL THEN
    RETURN NULL;
  END IF;
  BEGIN
    IF jsonb_typeof(options -> name) = 'string' AND given COLLATE "C" ~ whole THEN
      RETURN given::timestamptz;
    END IF;
  EXCEPTION WHEN data_exception THEN
    -- Of the right form, and no day of the calendar.
    NULL;
  END;
  PERFORM facteur.refuse(name, 'must be a moment with its offset from UTC, such as 2026-08-01T09:00:00+02:00',
                         'In SQL: jsonb_build_object(''' || name || ''', now() + interval ''1 hour'').');
END
$$;

-- One of some words; which, from 0.
CREATE FUNCTION facteur.option_choice(options jsonb, name text, choices text[], otherwise text) RETURNS integer
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  at integer := array_position(choices, coalesce(options ->> name, otherwise));
BEGIN
  IF at IS NULL OR jsonb_typeof(options -> name) NOT IN ('string', 'null') THEN
    PERFORM facteur.refuse(name, 'must be one of ' || array_to_string(choices, ', '), 'When it is left out: ' || otherwise || '.');
  END IF;
  RETURN at - 1;
END
$$;

-- {"X-A": "1"} or [{"name": "X-A", "value": "1"}], the latter in order and with repetitions; the latter comes out.
CREATE FUNCTION facteur.option_headers(options jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  given jsonb := coalesce(options -> 'headers', 'null');
  hint  text  := 'Accepted: {"X-Campaign": "spring"} or [{"name": "X-Campaign", "value": "spring"}].';
BEGIN
  IF jsonb_typeof(given) = 'object' THEN
    given := (SELECT coalesce(jsonb_agg(jsonb_build_object('name', h.key, 'value', h.value)), '[]') FROM jsonb_each(given) h);
  ELSIF jsonb_typeof(given) = 'null' THEN
    RETURN '[]';
  ELSIF jsonb_typeof(given) <> 'array' THEN
    PERFORM facteur.refuse('headers', 'must be an object or an array', hint);
  END IF;
  FOR i IN 0 .. jsonb_array_length(given) - 1 LOOP
    IF jsonb_typeof(given -> i) <> 'object' OR jsonb_typeof(given -> i -> 'name') IS DISTINCT FROM 'string'
       OR jsonb_typeof(given -> i -> 'value') IS DISTINCT FROM 'string' OR (given -> i) - 'name' - 'value' <> '{}' THEN
      PERFORM facteur.refuse(format('headers[%s]', i), 'must have a name and a value, both of them texts, and nothing else', hint);
    END IF;
  END LOOP;
  RETURN given;
END
$$;

-- Each with a type: application/octet-stream unless it says another.
CREATE FUNCTION facteur.option_files(options jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  given jsonb := coalesce(options -> 'attachments', 'null');
  known text[] := ARRAY['filename', 'content_type', 'content_id', 'content'];
  hint  text  := 'Accepted: [{"filename": "invoice.pdf", "content_type": "application/pdf", "content": "<base64>", "content_id": "logo"}]; '
                 'content_type and content_id may be left out.';
  kept  jsonb := '[]';
  file  jsonb;
BEGIN
  IF jsonb_typeof(given) = 'null' THEN
    RETURN kept;
  ELSIF jsonb_typeof(given) <> 'array' THEN
    PERFORM facteur.refuse('attachments', 'must be an array of objects', hint);
  END IF;
  FOR i IN 0 .. jsonb_array_length(given) - 1 LOOP
    file := given -> i;
    IF jsonb_typeof(file) <> 'object' OR file - known <> '{}'
       OR EXISTS (SELECT FROM unnest(known) k WHERE jsonb_typeof(file -> k) NOT IN ('string', 'null')) THEN
      PERFORM facteur.refuse(format('attachments[%s]', i), 'must have filename, content_type, content_id and content, texts all of them, and nothing else', hint);
    ELSIF file ->> 'content' IS NULL THEN
      PERFORM facteur.refuse(format('attachments[%s]', i), 'needs a content', hint);
    END IF;
    kept := kept || jsonb_build_object(
      'filename', coalesce(file ->> 'filename', ''), 'content_type', coalesce(file ->> 'content_type', 'application/octet-stream'),
      'content_id', file ->> 'content_id');
  END LOOP;
  RETURN kept;
END
$$;

CREATE FUNCTION facteur.check_options(options jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  known   text[] := ARRAY['attachments', 'bcc', 'cc', 'expires_at', 'from', 'headers', 'idempotency_key', 'on_unknown', 'priority',
                          'reply_to', 'scheduled_at', 'sensitive', 'supersedes', 'to'];
  unknown text;
BEGIN
  IF jsonb_typeof(options) <> 'object' THEN
    PERFORM facteur.refuse('options', 'must be an object', 'Such as {"from": "shop@example.com", "priority": "high"}.');
  ELSIF options - known <> '{}' THEN
    unknown := (SELECT min(k COLLATE "C") FROM jsonb_object_keys(options - known) k);
    PERFORM facteur.refuse('options', 'has a name that is not known: ' || to_json(left(unknown, 64)), 'Known are: ' || array_to_string(known, ', ') || '.');
  ELSIF jsonb_typeof(options -> 'sensitive') NOT IN ('boolean', 'null') THEN
    PERFORM facteur.refuse('sensitive', 'must be true or false', 'It is an option: {"sensitive": true}.');
  END IF;
END
$$;

-- 6. The whole: email::check.

-- email::check::check_bodies. Postgres itself refuses NUL.
CREATE FUNCTION facteur.check_bodies(body text, html text, contents bytea[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  bytes bigint := coalesce(octet_length(body), 0)::bigint + coalesce(octet_length(html), 0);
  file  bytea;
BEGIN
  IF body IS NULL AND html IS NULL THEN
    PERFORM facteur.refuse('text', 'is missing: text or html is expected', 'The third argument is the text, the fourth the HTML.');
  END IF;
  FOREACH file IN ARRAY contents LOOP
    bytes := bytes + octet_length(file);
  END LOOP;
  IF bytes > 26214400 THEN
    PERFORM facteur.refuse('the e-mail', format('is %s bytes long, the most is 26214400', bytes), 'Text, HTML and attachments together.');
  END IF;
END
$$;

-- email::check::check_times_and_key, email::check::check_supersedes.
CREATE FUNCTION facteur.check_times_and_names(scheduled_at timestamptz, expires_at timestamptz, key text, supersedes text) RETURNS void
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF expires_at <= scheduled_at THEN
    PERFORM facteur.refuse('expires_at', 'must be later than scheduled_at', 'When it is left out: 24 hours after scheduled_at.');
  ELSIF key COLLATE "C" !~ '^[ -~]{1,255}$' THEN
    PERFORM facteur.refuse('idempotency_key', 'must be 1 to 255 printable ASCII characters', 'Such as order-4711.');
  ELSIF length(supersedes) NOT BETWEEN 1 AND 128 OR supersedes COLLATE "C" ~ '[\u0001-\u001f\u007f-\u009f]' THEN
    PERFORM facteur.refuse('supersedes', 'must be 1 to 128 characters, none of them a control character', 'Such as login-code:ada.');
  END IF;
END
$$;

-- A UUIDv7 (RFC 9562 §5.7): milliseconds, then 12 bits of a fraction of one (§6.2, method 3), so that the ids of one transaction
-- sort as they were made; the rest is random.
CREATE FUNCTION facteur.new_email_id() RETURNS uuid
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  micros bigint := floor(extract(epoch FROM clock_timestamp()) * 1000000);
  bytes  bytea  := overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send(micros / 1000) FROM 3) FROM 1 FOR 6);
BEGIN
  RETURN encode(overlay(bytes PLACING int2send((28672 + micros % 1000 * 4096 / 1000)::smallint) FROM 7 FOR 2), 'hex')::uuid;
END
$$;

CREATE FUNCTION facteur.send_email(recipient text, subject text, body text, html text DEFAULT NULL, options jsonb DEFAULT '{}') RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET standard_conforming_strings = on
AS $$
#variable_conflict error
DECLARE
  -- Keys of SQL's callers meet neither those of other roles nor those of the other doors; names to supersede by are everybody's.
  key_scope    text  := 'sql:' || left(session_user, 60);
  name_scope   text  := 'default';
  given        jsonb := coalesce(options, '{}');
  v_key        text;
  v_from       text;
  v_to         text[];
  v_cc         text[];
  v_bcc        text[];
  v_reply_to   text[];
  v_supersedes text;
  v_scheduled  timestamptz;
  v_expires    timestamptz;
  v_priority   smallint;
  v_hold       boolean;
  v_sensitive  boolean;
  v_headers    jsonb;
  files        jsonb;
  contents     bytea[] := '{}';
  sender       jsonb;
  to_all       jsonb;
  cc_all       jsonb;
  bcc_all      jsonb;
  reply_to_all jsonb;
  recipients   text[];
  problem      text;
  new_id       uuid := facteur.new_email_id();
  digest       bytea;
  written      record;
BEGIN
  PERFORM facteur.check_options(given);
  v_key        := facteur.option_text(given, 'idempotency_key');
  v_from       := coalesce(facteur.option_text(given, 'from'), nullif(current_setting('facteur.default_from', true), ''));
  v_to         := array_remove(ARRAY[recipient], NULL) || facteur.option_texts(given, 'to');
  v_cc         := facteur.option_texts(given, 'cc');
  v_bcc        := facteur.option_texts(given, 'bcc');
  v_reply_to   := facteur.option_texts(given, 'reply_to');
  v_supersedes := facteur.option_text(given, 'supersedes');
  v_scheduled  := facteur.option_time(given, 'scheduled_at');
  v_expires    := facteur.option_time(given, 'expires_at');
  v_priority   := facteur.option_choice(given, 'priority', ARRAY['urgent', 'high', 'normal', 'low'], 'normal');
  v_hold       := facteur.option_choice(given, 'on_unknown', ARRAY['retry', 'hold'], 'retry') = 1;
  v_sensitive  := coalesce((given ->> 'sensitive')::boolean, false);
  v_headers    := facteur.option_headers(given);
  files        := facteur.option_files(given);
  FOR i IN 0 .. jsonb_array_length(files) - 1 LOOP
    contents := contents || facteur.file_content(format('attachments[%s]', i), given -> 'attachments' -> i ->> 'content');
  END LOOP;

  -- In the order of email::EmailBuilder::build, so that both doors name the same field.
  problem := CASE WHEN subject IS NULL THEN 'is missing: a text is expected' ELSE facteur.line_problem(subject, 998) END;
  IF problem IS NOT NULL THEN
    PERFORM facteur.refuse('subject', problem, 'The second argument: one line of at most 998 characters.');
  ELSIF cardinality(v_to) = 0 THEN
    PERFORM facteur.refuse('to', 'is missing: an address is expected', 'The first argument; more of them in the option "to".');
  END IF;
  PERFORM facteur.check_bodies(body, html, contents);
  PERFORM facteur.check_headers(v_headers);
  PERFORM facteur.check_times_and_names(v_scheduled, v_expires, v_key, v_supersedes);
  IF v_from IS NULL THEN
    PERFORM facteur.refuse('from', 'is missing: an address is expected',
      'The option "from", or once and for all: ALTER DATABASE … SET facteur.default_from = ''Shop <shop@example.com>''.');
  END IF;
  sender       := facteur.mailbox('from', v_from);
  to_all       := facteur.mailboxes('to', v_to);
  cc_all       := facteur.mailboxes('cc', v_cc);
  bcc_all      := facteur.mailboxes('bcc', v_bcc);
  reply_to_all := facteur.mailboxes('reply_to', v_reply_to);
  FOR i IN 0 .. jsonb_array_length(files) - 1 LOOP
    files := jsonb_set(files, ARRAY[i::text], facteur.checked_file(format('attachments[%s]', i), files -> i));
  END LOOP;

  -- email::Email::envelope_recipients: each once, in the order to, cc, bcc.
  recipients := ARRAY (
    SELECT (m.box ->> 'address') COLLATE "C" FROM jsonb_array_elements(to_all || cc_all || bcc_all) WITH ORDINALITY AS m (box, n)
    GROUP BY 1 ORDER BY min(m.n));
  IF v_key IS NOT NULL THEN
    digest := sha256(convert_to(jsonb_build_array(
      sender, to_all, cc_all, bcc_all, reply_to_all, subject, body, html, v_headers, extract(epoch FROM v_scheduled), extract(epoch FROM v_expires),
      v_priority, v_hold, v_sensitive, v_supersedes, files, ARRAY (SELECT encode(sha256(c), 'hex') FROM unnest(contents) c))::text, 'UTF8'));
  END IF;

  -- outbox::enqueue's statement; what is said there is not repeated here.
  WITH key AS (
    INSERT INTO facteur.idempotency AS i (scope, key, request_sha256, email_id)
    SELECT key_scope, v_key, digest, new_id WHERE v_key IS NOT NULL
    ON CONFLICT (scope, key) DO UPDATE SET (request_sha256, email_id, created_at) = (
      SELECT excluded.request_sha256, excluded.email_id, excluded.created_at
      WHERE i.created_at <= now() - interval '24 hours'
      UNION ALL
      SELECT i.request_sha256, i.email_id, i.created_at
      WHERE i.created_at > now() - interval '24 hours'
    )
    RETURNING i.email_id, i.request_sha256 = digest AS same, i.email_id = new_id AS created
  ),
  accepted AS (
    SELECT new_id AS id WHERE NOT EXISTS (SELECT 1 FROM key WHERE NOT key.created)
  ),
  email AS (
    INSERT INTO facteur.emails
      (id, message_id, date, boundary, sender, recipients, cc, bcc, reply_to,
       subject, text_body, html_body, headers, scheduled_at,
       priority, hold_unknown, supersedes, sensitive)
    SELECT a.id, a.id || '@' || substr(sender ->> 'address', position('@' IN sender ->> 'address') + 1), date_trunc('second', now()),
           'facteur' || replace(gen_random_uuid()::text, '-', ''), sender, to_all, cc_all, bcc_all, reply_to_all,
           send_email.subject, body, html, v_headers, v_scheduled,
           v_priority, v_hold, v_supersedes, v_sensitive
    FROM accepted a
  ),
  secret AS (
    INSERT INTO facteur.to_wipe (email_id) SELECT a.id FROM accepted a WHERE v_sensitive
  ),
  attached AS (
    INSERT INTO facteur.attachments (email_id, position, filename, content_type, content_id, content)
    SELECT a.id, f.position - 1, f.file ->> 'filename', f.file ->> 'content_type', f.file ->> 'content_id', contents[f.position]
    FROM accepted a, jsonb_array_elements(files) WITH ORDINALITY AS f (file, position)
  ),
  queued AS (
    INSERT INTO facteur.deliveries
      (email_id, position, recipient, priority, hold_unknown, run_at, expires_at, supersedes)
    SELECT a.id, r.position - 1, r.recipient, v_priority, v_hold, due.at,
           coalesce(v_expires, due.at + interval '24 hours'), v_supersedes
    FROM accepted a,
         (SELECT greatest(now(), v_scheduled) AS at) due,
         unnest(recipients) WITH ORDINALITY AS r (recipient, position)
  ),
  name AS (
    INSERT INTO facteur.newest AS n (scope, name, email_id)
    SELECT name_scope, v_supersedes, a.id FROM accepted a WHERE v_supersedes IS NOT NULL
    ON CONFLICT (scope, name) DO UPDATE
    SET email_id = excluded.email_id, previous = n.email_id, at = excluded.at
    RETURNING n.previous
  ),
  older AS MATERIALIZED (
    SELECT d.email_id, d.position
    FROM facteur.deliveries d JOIN name ON d.email_id = name.previous
    WHERE d.state = 'queued'
    ORDER BY d.email_id, d.position
    FOR UPDATE OF d
  ),
  superseded AS (
    DELETE FROM facteur.deliveries d USING older o
    WHERE d.email_id = o.email_id AND d.position = o.position
    RETURNING d.email_id, d.position, d.recipient, d.attempt, d.lease_token, d.may_have_left,
              CASE WHEN d.may_have_left THEN 'failed' ELSE 'cancelled' END AS final
  ),
  outcome AS (
    INSERT INTO facteur.outcomes
      (email_id, position, recipient, final, reason, attempts, lease_token, may_have_left)
    SELECT s.email_id, s.position, s.recipient, s.final::facteur.final_state,
           CASE s.final WHEN 'failed' THEN 'unknown' ELSE 'superseded' END,
           s.attempt, s.lease_token, s.may_have_left
    FROM superseded s
  ),
  event AS (
    INSERT INTO facteur.events (email_id, position, kind, attempt, lease_token, detail)
    SELECT a.id, NULL, 'accepted', NULL, NULL, NULL FROM accepted a
    UNION ALL
    SELECT s.email_id, s.position, s.final, s.attempt, s.lease_token, 'superseded' FROM superseded s
  )
  SELECT result.id, result.same INTO STRICT written
  FROM (
    SELECT a.id, true AS same FROM accepted a
    UNION ALL
    SELECT key.email_id, key.same FROM key WHERE NOT key.created
  ) result;
  IF NOT written.same THEN
    PERFORM facteur.refuse('idempotency_key', 'was used before, with another e-mail', 'A key stands for its e-mail for 24 hours.');
  END IF;
  RETURN written.id;
END
$$;
COMMENT ON FUNCTION facteur.send_email IS
  'Queues an e-mail, if and only if the transaction commits; returns its id. A worker sends it. A field that cannot be taken: '
  'SQLSTATE 22023, a message that begins with the field, and a hint. Options: from, to, cc, bcc, reply_to, headers, attachments, priority, '
  'scheduled_at, expires_at, on_unknown, idempotency_key, supersedes, sensitive.';

-- 7. The bell, for after the commit.
CREATE FUNCTION facteur.wake() RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- A notification takes a lock that puts the commits of the whole server in a row, and keeps it while this one is made durable.
  IF pg_current_xact_id_if_assigned() IS NOT NULL THEN
    RAISE active_sql_transaction USING
      MESSAGE = 'facteur.wake() is for after the commit: this transaction has written',
      HINT = 'Without it the mail leaves at the next look at the queue, within a second.';
  END IF;
  PERFORM pg_notify('facteur_due', '');
END
$$;
COMMENT ON FUNCTION facteur.wake IS
  'Wakes the workers at once, instead of at their next look at the queue. After the commit, in a transaction of its own.';

-- Who may send is said by a GRANT to a role, by name. The rest is the owner's.
REVOKE ALL ON FUNCTION
  facteur.refuse, facteur.line_problem, facteur.is_local_part, facteur.letters, facteur.first_letters, facteur.punycode,
  facteur.punycode_bias, facteur.from_punycode, facteur.a_label, facteur.a_labels, facteur.address, facteur.mailbox, facteur.mailboxes,
  facteur.check_header, facteur.check_headers, facteur.checked_file, facteur.is_content_type, facteur.file_content,
  facteur.option_text, facteur.option_texts, facteur.option_time, facteur.option_choice, facteur.option_headers, facteur.option_files,
  facteur.check_options, facteur.check_bodies, facteur.check_times_and_names, facteur.new_email_id, facteur.send_email, facteur.wake
FROM PUBLIC;
-- It runs with its owner's rights, too: whoever has the schema could hang it on a table of theirs, and keep a week from being pruned.
REVOKE ALL ON FUNCTION facteur.note_late_write FROM PUBLIC;
